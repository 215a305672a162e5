"""Prints the fitted law, every point's residual, the errors on points left out, and the price of unfinished decays."""

from benchmarks.loss_law.fit import Law, Point, fit, held_out, leave_one_out, read_points, rms
from benchmarks.loss_law.unfinished import read_unfinished

CORNERS = ((30e6, 1e9), (60e6, 1e9), (124e6, 0.3e9), (124e6, 0.1e9), (350e6, 3e9), (1.5e9, 10e9), (3e9, 50e9))
"""Parameters and tokens at which the law is compared with the one whose exponents are free, at the s of `muon_modern`."""


def main() -> None:
    points = read_points()
    law, free = fit(points), fit(points, prior=None)
    left_out = leave_one_out(points)
    print(f"law                    {_text(law)}")
    print(f"with free exponents    {_text(free)}\n")
    print("recipe          s")
    for recipe, data_efficiency in sorted(law.data_efficiencies.items(), key=lambda item: item[1]):
        print(f"{recipe:14} {data_efficiency:5.2f}")
    _print_points(points, law, left_out)
    _print_errors(points, law, left_out)

    print("\nwhere free exponents would lead, against the law (nats):")
    s, free_s = law.data_efficiencies["muon_modern"], free.data_efficiencies["muon_modern"]
    for params, tokens in CORNERS:
        difference = free.loss(params, tokens, free_s) - law.loss(params, tokens, s)
        print(f"{params / 1e6:6.0f}M {tokens / 1e9:5.1f}B {difference:+.3f}")

    print("\nprice of an unfinished decay, by the share of the peak rate (nats):")
    for row in read_unfinished():
        print(f"{row.run:28} {row.optimizer:18} {row.params / 1e6:5.0f}M {row.rate_share:5.3f} {row.price(law):+.4f}")


def _print_points(points: list[Point], law: Law, left_out: dict[Point, float]) -> None:
    print("\nrecipe              N      D context   loss  residual  left out")
    for point in points:
        out = f"{left_out[point]:+9.4f}" if point in left_out else ""
        print(
            f"{point.recipe:14} {point.params / 1e6:5.0f}M {point.tokens / 1e9:5.2f}B {point.context:5} "
            f"{point.val_loss:8.4f} {law.residual(point):+9.4f} {out}"
        )


def _print_errors(points: list[Point], law: Law, left_out: dict[Point, float]) -> None:
    subset = held_out(points)
    distinct = [error for point, error in left_out.items() if point.recipe != "ablation"]
    worst = max(left_out, key=lambda point: abs(left_out[point]))
    print(f"\n{len(points)} points: RMS {rms([law.residual(point) for point in points]):.4f} nats")
    print(
        f"{len(subset)} points of context 1024 whose recipe has another: RMS {rms([law.residual(p) for p in subset]):.4f}, "
        f"left out {rms(list(left_out.values())):.4f} "
        f"({rms(distinct):.4f} without the {len(subset) - len(distinct)} 'ablation' rows, each another recipe)"
    )
    print(f"worst left out: {left_out[worst]:+.4f}, {worst.recipe}, {worst.source}")


def _text(law: Law) -> str:
    return (
        f"L = {law.floor:.4f} + {law.params_scale:.1f} N^-{law.params_exponent:.4f} "
        f"+ {law.tokens_scale:.1f} (s D)^-{law.tokens_exponent:.4f}"
    )


if __name__ == "__main__":
    main()
