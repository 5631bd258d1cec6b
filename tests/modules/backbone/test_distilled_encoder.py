import json

import pytest

from metaprompts.errors import InputError
from metaprompts.modules.backbone.distilled_encoder import EncoderShape, SmallEncoder

SHAPE = EncoderShape(widths=(8, 8), blocks=1, latent_channels=4, latent_scale=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": 2**31}, "blocks is 2147483648; expected 0 to 64"),
        ({"widths": [8] * 9}, "widths has 9 entries; expected 1 to 8"),
        ({"widths": []}, "widths has 0 entries; expected 1 to 8"),
        ({"latent_scale": 0}, "latent_scale is 0.0; expected more than 0 to 1000000"),
        ({"widths": [65536, 65536]}, "does not fit this model"),
    ],
)
def test_sizes_that_a_file_may_not_command(tmp_path, change, message):
    """An encoder.json of a hundred bytes hung the reader, or took all memory."""
    SmallEncoder(SHAPE, "name").save(tmp_path)
    path = tmp_path / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError) as caught:
        SmallEncoder.read(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
