"""What the bench computes, without running anything: python3 -m unittest discover bench"""

import collections
import pathlib
import random
import unittest

import contenders
import instructions
import load
import plot
import report
from workloads import LUA, NGINX, NOOP, OURS, TARGETS, WORKLOADS, Server, Target, zipf_capacity


def case(*costs, contender=OURS, **more):
    rounds = [{"cpu_us": cost, "rate": 1000.0, "resident": 1 << 20, **more} for cost in costs]
    return {"contender": contender, "depth": 1, "connections": 64, "answer_bytes": 358, "rounds": rounds}


def record(**cases):
    return {"machine": {"date": "2026-01-02", "cores": 2, "cpu": "a <fast> one"},
            "workloads": {"depth-1": {"title": "hit", "rounds": 3, "seconds": 1, "measured": "now", "cases": cases}}}


class Instructions(unittest.TestCase):
    def test_the_last_line_of_a_figure_is_its_baseline(self):
        lines = ["# a comment", "2026-01-02  hit  1000  first", "2026-01-02  miss  9000  first"]
        text = "\n".join([*lines, "2026-01-03  hit  900  a trim of 10 %"])
        self.assertEqual(instructions.baselines(text), {"hit": 900, "miss": 9000})

    def test_a_rise_above_one_percent_fails_and_a_fall_does_not(self):
        passed = [instructions.verdict("hit", count, 1000)[0] for count in (500, 1000, 1010, 1011)]
        self.assertEqual(passed, [True, True, True, False])
        self.assertFalse(instructions.verdict("hit", 1000, None)[0])

    def test_every_figure_has_a_baseline(self):
        recorded = instructions.baselines(instructions.RECORD.read_text())
        self.assertEqual(sorted(recorded), sorted(figure.name for figure in instructions.FIGURES))


class Figures(unittest.TestCase):
    def test_a_ratio_is_of_figures_from_the_same_round(self):
        # The machine is twice as slow in the second round: no ratio changes by that.
        ours, floor = case(11, 22, 12), case(10, 20, 10)
        self.assertEqual(report.ratios(ours, floor, "cpu_us"), [1.1, 1.1, 1.2])

    def test_a_target_is_met_up_to_its_limit_and_not_measured_without_its_cases(self):
        target = Target("t", "depth-1", "ours", 1.1, "floor")
        workloads = record(ours=case(11, 22, 12), floor=case(10, 20, 10))["workloads"]
        self.assertEqual(report.judge(target, workloads), (1.1, 1.1, 1.2))
        self.assertIsNone(report.judge(target, {}))
        self.assertIsNone(report.judge(target, record(ours=case(1))["workloads"]))
        bound = Target("t", "depth-1", "ours", 1.0, figure="p99.9")
        self.assertIsNone(report.judge(bound, workloads))
        latencies = case(1, 1, **{"p99.9": 0.4})
        latencies["rounds"][1].update({"p99.9": 70.0, "warnings": ["the generator was late"]})
        self.assertEqual(report.judge(bound, record(ours=latencies)["workloads"]), (0.4, 0.4, 0.4))

    def test_the_table_says_which_targets_are_missed(self):
        cases = {OURS: case(12, 12), NOOP: case(10, 10), NGINX: case(13, 13)}
        table = report.table(record(**cases))
        self.assertIn("| hit, depth 1, beside the no-op server | 1.15 | 1.200 (1.200 to 1.200) | **missed** |", table)
        self.assertIn("| hit, depth 1, beside nginx's constant answer | 1.0 | 0.923 (0.923 to 0.923) | met |", table)
        self.assertIn("not measured", table)
        self.assertTrue(table.endswith("\n1 missed.\n"))

    def test_the_plot_has_a_row_a_case(self):
        drawn = plot.svg(record(**{OURS: case(1, 2, 30), "a < b": case(0.5, 0.6, 0.7, contender=NOOP)}))
        self.assertEqual(drawn.count("<circle"), 2)
        self.assertIn("a &lt; b", drawn)


class Workloads(unittest.TestCase):
    def test_every_target_names_a_case_that_is_measured(self):
        measured = {(workload.name, one.label) for workload in WORKLOADS for one in workload.cases}
        for target in TARGETS:
            for label in filter(None, (target.case, target.beside)):
                self.assertIn((target.workload, label), measured)

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
    def test_wrk_is_read_and_a_load_with_failures_is_none(self):
        self.assertEqual(load.answered("  1234 requests in 3.10s, 1.2MB read\n"), (1234, 3.1))
        self.assertEqual(load.answered("  60 requests in 1.00m, 1.2MB read\n"), (60, 60.0))
        for bad in ("", "9 requests in 1.00s\n  Non-2xx or 3xx responses: 1\n",
                    "9 requests in 1.00s\n  Socket errors: connect 1, read 0, write 0, timeout 0\n"):
            with self.assertRaises(contenders.BenchError):
                load.answered(bad)

    def test_nginx_answers_with_our_header_fields_but_for_its_own(self):
        class Redis:
            port = 7

        ours = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"x\"\r\nDate: now\r\nAge: 0\r\n\r\nvvv"
        for kind, answers in ((NGINX, "return 200 'vvv';"), (LUA, "require('lrucache').start(9, 7)")):
            server = Server(kind, value=3, capacity=9)
            config = contenders._nginx_config(server, Redis, 8080, ours, pathlib.Path("/w"))
            self.assertIn("add_header ETag '\"x\"';add_header Age '0';", config)
            self.assertNotIn("add_header Date", config)
            self.assertIn(answers, config)


if __name__ == "__main__":
    unittest.main()
