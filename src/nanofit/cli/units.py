"""Numbers as a person reads them."""


def quantity(value: float) -> str:
    """1234567 as 1.23M."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * limit:  # what rounds up to the limit is written in it
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.0f}"


def size(size_bytes: float) -> str:
    """Bytes in binary units: 1.2 GiB."""
    for limit, suffix in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= limit:
            value = size_bytes / limit
            return f"{value:.1f} {suffix}" if value < 100 else f"{value:.0f} {suffix}"
    return f"{size_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Seconds as 45s, 3m20s, 5h12m or 3d4h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"
