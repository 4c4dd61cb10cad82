"""What the verbs that judge models say about their options; imports nothing, so that their help is quick."""

SCALE = "HR side / LR side; default: the models' own, else 4."
PROTOCOL = "rgb8: LR and SR are 8-bit RGB. y: luma alone, LR kept in double."
PERCEPTUAL = (
    "auto, none, lpips, vgg, swd, or a VGG-19 weights file; less is better. auto: the first whose weights are here."
)
DATA = "Folder of HR images (all of it), one image file, or another source, such as div2k:PATH (its held-out images)."
