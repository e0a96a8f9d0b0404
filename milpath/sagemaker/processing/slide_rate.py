"""What slides cost: from the rate that was measured and the price that was given, and nothing else."""

# Measured on one core, and said in docs/speed.md with the machine: small biopsies of PANDA at their lowest level.
DOCUMENTED_RATE = 46.0


def instance_hours(num_slides: int, slides_per_second: float) -> float:
    """Return the hours of one instance.

    Args:
        num_slides: Number of slides.
        slides_per_second: Slides that one instance does per second.

    Raises:
        ValueError: If the rate is not positive.

    Example:
        >>> round(instance_hours(1000, 0.5), 3)
        0.556
    """
    if not slides_per_second > 0:
        raise ValueError(
            f"slides_per_second={slides_per_second} must be above 0: slides that one instance does per second"
        )
    return num_slides / slides_per_second / 3600


def describe_cost(
    slides_per_second: float | None, price_per_hour: float | None, command: str, num_slides: int = 1000
) -> str:
    """Return one line with the instance hours and, if a price is given, the price of some slides.

    The number of instances changes the time and not the cost; starting and copying the slides come on top.

    Args:
        slides_per_second: What one instance does, as `milpath tile` and `milpath extract` print at their end; `None` if it
            was not measured.
        price_per_hour: Price of one instance per hour in the account's currency; `None` if it was not given.
        command: `tile`, `extract` or `predict`.
        num_slides: Number of slides.

    Raises:
        ValueError: If the rate or the price is not positive.
    """
    if price_per_hour is not None and not price_per_hour > 0:
        raise ValueError(
            f"price_per_hour={price_per_hour} must be above 0: see the pricing page of SageMaker Processing"
        )
    said = f"{num_slides:,} slides: "
    if slides_per_second is None:
        rate = (
            f"one core cut {DOCUMENTED_RATE:g} small biopsies per second at their lowest level (docs/speed.md); whole "
            "slides at full resolution take minutes each"
            if command == "tile"
            else "no rate is documented, it depends on encoder and GPU"
        )
        return f"{said}cost unknown. {rate}: run milpath {command} on ten slides and give slides_per_second=NUMBER"
    hours = instance_hours(num_slides, slides_per_second)
    time = f"{hours:,.2f} instance hours at {slides_per_second:g} slides/s, and start and copying of slides on top"
    if price_per_hour is None:
        return f"{said}{time}; give price_per_hour=NUMBER for the cost"
    return f"{said}about {hours * price_per_hour:,.2f} ({time}, at {price_per_hour:g} per hour)"
