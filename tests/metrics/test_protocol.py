from sisr.metrics.protocol import in_words, protocol


def test_a_protocol_is_said_in_words_without_its_code() -> None:
    assert in_words(protocol("rgb8").stamp(4) + "|bf16") == (
        "on luma, without a border of 4 px, lr by MATLAB's bicubic in 8 bits, mean of the images, bf16"
    )
    assert in_words(protocol("y").stamp(3, "given-lr")) == (
        "on 8-bit luma alone, without a border of 3 px, lr as given, mean of the images"
    )
    assert in_words("Y|crop=scale|recipe-lr|sr-u8|mean-of-images|swd-laplacian-7x7-x1000") == (
        "on luma, without a border of `scale` px, lr made by the recipe, mean of the images, SWD"
    )
