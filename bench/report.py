"""From the figures of all rounds to a table a reader can judge: medians with their spread, and the targets."""

import statistics

from load import QUANTILES
from workloads import TARGETS

MIB = 1024 * 1024


def median(case, figure):
    """The median over the rounds; None where it was not measured."""
    values = [figures[figure] for figures in case["rounds"] if figure in figures]
    return statistics.median(values) if values else None


def ratios(case, beside, figure):
    """One case's figure over another's, round by round: what drifts in between concerns both."""
    return [a[figure] / b[figure] for a, b in zip(case["rounds"], beside["rounds"])]


def judge(target, workloads):
    """What was measured for a target, as median, least and most; None where it was not."""
    cases = workloads.get(target.workload, {}).get("cases", {})
    case, beside = cases.get(target.case), cases.get(target.beside)
    if case is None or (target.beside and beside is None):
        return None
    if target.beside:
        values = ratios(case, beside, target.figure)
    else:
        # A generator that was late has measured itself.
        values = [figures[target.figure] for figures in case["rounds"]
                  if target.figure in figures and not figures.get("warnings")]
    return (statistics.median(values), min(values), max(values)) if values else None


def table(results):
    """The whole record as a page."""
    machine = results["machine"]
    lines = [f"# Bench, {machine['date']}, {machine['cores']} cores", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items() if name not in ("date", "cores")]
    lines += [
        "",
        "Server CPU is user + system time of the server over the requests answered: median of the rounds (least to most).",
        "Requests a second are those of a closed loop whose load has one core; often the load is what limits them.",
        "Resident is the size after the last round.",
    ]
    for name, workload in results["workloads"].items():
        lines += ["", f"## {name}: {workload['title']}", "",
                  f"{workload['rounds']} rounds of {workload['seconds']} s, {workload['measured']}", "",
                  "| case | server CPU, us a request | requests a second | resident, MiB | |",
                  "| --- | ---: | ---: | ---: | --- |"]
        lines += [_row(label, case) for label, case in workload["cases"].items()]
    return "\n".join(lines + _targets(results["workloads"])) + "\n"


def _row(label, case):
    costs = [figures["cpu_us"] for figures in case["rounds"]]
    return (f"| {label} | {statistics.median(costs):,.2f} ({min(costs):,.2f} to {max(costs):,.2f}) "
            f"| {median(case, 'rate'):,.0f} | {median(case, 'resident') / MIB:,.1f} | {_remarks(case)} |")


def _remarks(case):
    remarks = [f"answer of {case['answer_bytes']:,} bytes"]
    last = case["rounds"][-1]
    if "hits" in last and median(case, "hits") < 0.9999:
        remarks.append(f"{median(case, 'hits'):.1%} hits")
    if len(last.get("workers", {})) > 1:
        shares = [statistics.median(figures["workers"][name] for figures in case["rounds"]) for name in last["workers"]]
        remarks.append("CPU of the workers " + " / ".join(f"{share:.0%}" for share in shares))
    if "p99.9" in last:
        remarks.append(", ".join(f"{name} {median(case, name):.3f}" for name in QUANTILES) + " ms")
        late = sum(bool(figures["warnings"]) for figures in case["rounds"])
        if late:
            remarks.append(f"the load was late or overloaded in {late} of {len(case['rounds'])} rounds")
    return "; ".join(remarks)


def _targets(workloads):
    lines = ["", "## Targets", "", "| target | at most | measured: median of the rounds (least to most) | |",
             "| --- | ---: | ---: | --- |"]
    missed = 0
    for target in TARGETS:
        judged = judge(target, workloads)
        if judged is None:
            lines.append(f"| {target.text} | {target.limit} | not measured | |")
            continue
        met = judged[0] <= target.limit
        missed += not met
        lines.append("| {} | {} | {:.3f} ({:.3f} to {:.3f}) | {} |".format(
            target.text, target.limit, *judged, "met" if met else "**missed**"))
    return [*lines, "", f"{missed} missed." if missed else "None missed."]
