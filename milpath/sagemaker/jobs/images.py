"""Addresses of AWS's PyTorch images, looked up in the SDK without a network."""

from milpath.sagemaker.jobs.aws_account import sdk


def image_address(scope: str, *, region: str, version: str, python: str, instance_type: str) -> str:
    """Return the address of AWS's PyTorch image.

    Args:
        scope: "training" or "inference".
        region: AWS region.
        version: PyTorch version, "2.10.0".
        python: Python of the image, "py313".
        instance_type: Says whether the image is the one for GPUs.

    Raises:
        ValueError: If the SDK knows no such image.
    """
    try:
        address: str = sdk("sagemaker.core.image_uris").retrieve(
            "pytorch",
            region=region,
            version=version,
            py_version=python,
            instance_type=instance_type,
            image_scope=scope,
        )
    except (ValueError, KeyError) as error:
        # The SDK lists every version since 0.4; the last few are of use.
        text = " ".join(str(error).split())
        known = text.split("version(s): ")
        if len(known) == 2:
            text = f"{known[0].split('. You may')[0]}; known: {', '.join(known[1].rstrip('.').split(', ')[-8:])}"
        raise ValueError(
            f"AWS has no PyTorch {scope} image {version} {python} for {instance_type} in {region} ({text[:300]}); set "
            "image_version and image_python, or image=ADDRESS of an image of your own"
        ) from None
    return address
