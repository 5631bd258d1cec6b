"""The web app: a page that predicts uploaded images, and the process that runs the models."""
