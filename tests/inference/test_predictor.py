import torch

from metaprompts.tasks.protocol import with_context
from metaprompts.tasks.sliding_window import predict_windows, slide_logits


def times_context(views, context=None):
    """Each view, times the number that its own caption stands for."""
    assert context is None or len(views) == len(context)
    return views if context is None else views * context[:, :1, :1, None]


BATCH = {"context": torch.tensor([2.0, 30.0])[:, None, None].expand(2, 4, 5)}
IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
WANTED = IMAGES * torch.tensor([2.0, 30.0])[:, None, None, None]


def test_every_window_is_seen_with_its_own_image_s_caption():
    predictor = with_context(times_context, BATCH)
    for batch in (1, 4, 8):
        segmented = slide_logits(predictor, IMAGES, window=(16, 16), stride=(8, 8), batch=batch)
        torch.testing.assert_close(segmented, WANTED)
    gray = predict_windows(predictor, IMAGES[:, :1], windows=2, flip=True)
    torch.testing.assert_close(gray, WANTED[:, :1])


def test_without_captions_the_model_is_called_as_it_is():
    assert with_context(times_context, {}) is times_context
