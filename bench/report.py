"""From the figures of all rounds to a table a reader can judge: medians with their quartiles, and the targets."""

import statistics

from load import QUANTILES
from targets import MOST_WAITED, TARGETS, judge, ratios, spread

MIB = 1024 * 1024


def median(case, figure):
    """The median over the rounds; None where it was not measured."""
    values = [figures[figure] for figures in case["rounds"] if figure in figures]
    return statistics.median(values) if values else None


def table(results, missing=True):
    """The whole record as a page; with `missing` also the targets of workloads that are not in it."""
    machine = results["machine"]
    lines = [f"# Bench, {machine['date']}, {machine['cores']} cores", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items() if name not in ("date", "cores")]
    lines += [
        "",
        "Server CPU is the time on a core of all threads of the server (schedstat) over the requests answered; median of the",
        "rounds, quartiles in brackets. `beside` is its ratio to the case named last, taken within each round. `busy` is the share of",
        "its core that the server used, `waited` the share of the time in which it was ready to run and another had the core: above",
        "1 % the machine was not quiet. Resident is the size after the last round.",
        *_targets(results["workloads"], missing), "", _noise(results["workloads"]),
    ]
    for name, workload in results["workloads"].items():
        lines += ["", f"## {name}: {workload['title']}", "",
                  f"{workload['rounds']} rounds of {workload['milliseconds']} ms, {workload['measured']}", "",
                  "| case | server CPU, us a request | beside | requests a second | busy | waited | resident, MiB | |",
                  "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
        lines += [_row(label, case, workload["cases"]) for label, case in workload["cases"].items()]
    return "\n".join(lines) + "\n"


def _row(label, case, cases):
    costs = spread([figures["cpu_us"] for figures in case["rounds"]])
    beside = cases.get(case["beside"])
    ratio = ""
    if beside and beside is not case:
        ratio = "{:.2f} ({:.2f} to {:.2f})".format(*spread(ratios(case, beside, "cpu_us")))
    return ("| {} | {:,.3f} ({:,.3f} to {:,.3f}) ".format(label, *costs)
            + f"| {ratio} | {median(case, 'rate'):,.0f} | {median(case, 'cpu_share'):.0%} | {median(case, 'waited'):.1%} "
            f"| {median(case, 'resident') / MIB:,.1f} | {_remarks(case)} |")


def _remarks(case):
    last = case["rounds"][-1]
    remarks = [f"answer of {last['answer_bytes']:,.0f} bytes"] if "answer_bytes" in last else []
    if "hits" in last and median(case, "hits") < 0.9999:
        remarks.append(f"{median(case, 'hits'):.1%} hits")
    if len(last.get("workers", {})) > 1:
        shares = [statistics.median(figures["workers"][name] for figures in case["rounds"]) for name in last["workers"]]
        remarks.append("CPU of the workers " + " / ".join(f"{share:.0%}" for share in shares))
    if "entry_bytes" in case:
        remarks.append(f"{case['entry_bytes']:.0f} bytes an entry beside key and value")
    if (waited := median(case, "load_waited") or 0) > MOST_WAITED:
        remarks.append(f"the load waited {waited:.0%}")
    if "p99.9" in last:
        remarks.append(", ".join(f"{name} {median(case, name):.3f}" for name in QUANTILES) + " ms")
        late = sum(bool(figures["warnings"]) for figures in case["rounds"])
        if late:
            remarks.append(f"the load was late or overloaded in {late} of {len(case['rounds'])} rounds")
    return "; ".join(remarks)


def _targets(workloads, missing):
    lines = ["", "## Targets", "", "| target | at most | measured: median of the rounds (quartiles) | |",
             "| --- | ---: | ---: | --- |"]
    missed = 0
    for target in TARGETS:
        if not missing and target.workload not in workloads:
            continue
        judged = judge(target, workloads)
        if isinstance(judged, str):
            lines.append(f"| {target.text} | {target.limit:,} | {judged} | |")
            continue
        met = judged[0] <= target.limit
        missed += not met
        lines.append(f"| {target.text} | {target.limit:,} | {_said(*judged)} | {'met' if met else '**missed**'} |")
    return [*lines, "", f"{missed} missed." if missed else "None missed."]


def _noise(workloads):
    """How quiet the machine was."""
    waited = statistics.median(median(case, "waited") for workload in workloads.values() for case in workload["cases"].values())
    said = f"The median server waited for its core in {waited:.1%} of the time"
    return said + (": **noisy**. Look at ratios and their quartiles, not at microseconds." if waited > MOST_WAITED else ".")


def _said(middle, low, high):
    """A count, or a ratio with its spread."""
    return f"{middle:,.0f}" if middle > 50 else f"{middle:.3f} ({low:.3f} to {high:.3f})"
