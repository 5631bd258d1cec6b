from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from metaprompts.recipes.loader import read_recipe
from metaprompts.training.dummy import architecture, empty_batch, fake_model


def test_hub_sources_are_taken_to_be_stable_diffusion_and_nothing_is_loaded(tmp_path):
    assert architecture("nobody/nothing") == architecture("model.safetensors") == "sd15"
    assert architecture("random:micro") == architecture("micro") == "micro"
    assert architecture(str(tmp_path)) == str(tmp_path)
    assert architecture("stabilityai/stable-diffusion-2-1-base") == "sd21"
    assert architecture("stabilityai/sdxl-turbo") == "sdxl"
    model = fake_model(read_recipe("nyu", ["--backbone.source", "nobody/nothing"]), FakeTensorMode())
    assert all(isinstance(each, FakeTensor) for each in [*model.parameters(), *model.buffers()])
    # 859.5 million less the time MLP's 2.05.
    assert sum(each.numel() for each in model.unet.parameters()) == 859_520_964 - 2_050_560
    assert model.unet.gradient_checkpointing


def test_a_batch_has_what_the_recipe_crops_to():
    shapes = {
        name: {key: tuple(tensor.shape) for key, tensor in empty_batch(read_recipe(name), 2).items()}
        for name in ("micro_nyu", "micro_cityscapes", "micro_coco_pose")
    }
    assert shapes == {
        "micro_nyu": {"image": (2, 3, 120, 120), "depth_m": (2, 120, 120)},
        "micro_cityscapes": {"image": (2, 3, 128, 128), "labels": (2, 128, 128)},
        "micro_coco_pose": {"image": (2, 3, 128, 96), "keypoints": (2, 17, 3)},
    }
