#!/usr/bin/env python3
"""--trace FILE: the spans of all ranks on one clock, for whatever a run came to, and at no cost to its bits."""
import json
import os
import re
import shutil
import signal

from job import CONVOY, Job, main, wait_until

NS = 1000  # in a microsecond, the file's unit; it has three decimals


class Trace(Job):
    def read(self, name="t.json"):
        with open(self.path(name)) as file:
            self.tree = json.load(file)
        self.events = self.tree["traceEvents"]
        for event in self.events:
            if "ts" in event:
                event["begin"] = round(event["ts"] * NS)
                event["end"] = event["begin"] + round(event.get("dur", 0) * NS)

    def spans(self, rank=None, **wanted):
        return [e for e in self.events if e["ph"] == "X" and rank in (None, e["pid"])
                and all(e[key] == value for key, value in wanted.items())]

    def layers(self):
        """What a network computes with, by the names of its tensors."""
        with open(self.path("model", "model.safetensors"), "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return sorted({name[:-len(".weight")] for name in header
                       if re.search(r"(conv\d|fc|downsample\.0)\.weight$", name)})

    def assert_nests(self):
        """Spans of a thread lie within each other or apart, parents first."""
        tracks = {}
        for span in self.spans():
            tracks.setdefault((span["pid"], span["tid"]), []).append(span)
        for track, spans in tracks.items():
            open_until = []
            last = 0
            for span in spans:
                self.assertGreaterEqual(span["begin"], last, (track, span))
                last = span["begin"]
                while open_until and open_until[-1] <= span["begin"]:
                    open_until.pop()
                if open_until:
                    self.assertLessEqual(span["end"], open_until[-1], (track, span))
                open_until.append(span["end"])

    def within(self, outer, **wanted):
        return [s for s in self.spans(outer["pid"], tid=outer["tid"], **wanted)
                if outer["begin"] <= s["begin"] and s["end"] <= outer["end"]]

    def trained(self, ranks=2, trace="t.json", **more):
        more = dict(dict(epochs=2, checkpoint="checkpoint"), **more)
        self.assertEqual(self.convoy(ranks, *self.options(trace=trace, **more)), 0, self.err)
        if trace is not None:
            self.read(trace)

    def test_only_the_rank_that_saves_waits_for_a_saved_steps_sums(self):
        """The others wait layer by layer, in the next forward: so on rank 1 a forward comes before each step settles."""
        self.trained(checkpoint_every=1, epochs=1, global_batch=8, micro_batch=4)
        self.assertGreater(len(self.spans(0, name="checkpoint")), 2)
        letters = {"agreement": "a", "settle": "s", "fc": "f"}
        spans = [span for name in letters for span in self.spans(1, name=name)]
        order = "".join(letters[span["name"]] for span in sorted(spans, key=lambda span: span["begin"]))
        self.assertRegex(order, r"^(fsfa){4}ss?")  # the fourth is the epoch's last; what follows is the evaluation's

    # --- what is in it ---

    def test_every_layer_of_every_micro_batch_on_one_clock(self):
        """Two epochs of two steps of two micro-batches, one on each rank; the bits are those of a run without."""
        self.trained(trace=None, checkpoint=None)
        without, sha256 = self.layers(), self.sha256()
        self.assertEqual(os.listdir(self.folder).count("t.json"), 0)
        self.trained()
        self.assertEqual(self.sha256(), sha256)
        self.assertIn("the trace is in 't.json'", self.err)
        self.assertEqual(self.tree["otherData"]["lost"], 0)
        self.assert_nests()
        layers = self.layers()
        self.assertEqual(layers, without)
        self.assertEqual(len(layers), 20)
        for rank in (0, 1):
            batches = self.spans(rank, name="micro-batch")
            self.assertEqual([b["args"]["lane"] for b in batches], [rank] * 4)
            for batch in batches:
                for direction in ("forward", "backward"):
                    found = sorted(s["name"] for s in self.within(batch, cat=direction))
                    for layer in layers:
                        self.assertEqual(found.count(layer), 1, (direction, layer))
                    self.assertEqual(len(found), len(set(found)), found)
                order = [s["name"] for s in self.within(batch, cat="forward") if s["name"] in layers]
                back = [s["name"] for s in self.within(batch, cat="backward") if s["name"] in layers]
                self.assertEqual(order, back[::-1])
            steps = self.spans(rank, name="step")
            self.assertEqual([s["args"]["step"] for s in steps], [1, 2, 3, 4])
            for step in steps:
                for name in ("micro-batch", "agreement"):
                    self.assertEqual(len(self.within(step, name=name)), 1, name)
            self.assert_forward_makes_weights(rank, steps)
            for name in ("prepare", "validating", "pictures", "loss", "add"):
                self.assertTrue(self.spans(rank, name=name), name)
            for validation in self.spans(rank, name="validating"):
                self.assertLessEqual(set(layers), {s["name"] for s in self.within(validation, cat="forward")})

    def assert_forward_makes_weights(self, rank, steps):
        """Of two steps an epoch: the second's forward waits for the first's sums layer by layer, from the front; the
        second's weights are made behind it, before anybody looks at them."""
        for number, step in enumerate(steps):
            forward = [s["begin"] for s in self.within(step, cat="forward")]
            for name in ("update", "sums"):
                seen = self.within(step, name=name)
                self.assertEqual(len(seen) > 1, number % 2 == 1, (rank, number, name))
                self.assertEqual(sum(s["begin"] > forward[0] for s in seen) > 1, number % 2 == 1)

    def buckets(self, rank):
        """(begin, end, number) of each on its way. Those of one id come one after the other."""
        begun, ways = {}, []
        for event in self.events:
            if event["pid"] == rank and event["ph"] in "be":
                key = event["id2"]["local"]
                if event["ph"] == "b":
                    self.assertNotIn(key, begun)
                    begun[key] = event
                else:
                    begin = begun.pop(key)
                    ways.append((begin["begin"], event["begin"], begin["args"]["bucket"]))
        self.assertEqual(begun, {})
        return ways

    def test_buckets_are_under_way_while_backward_goes_on(self):
        """The first bucket, of the last layers, sets out before its ranks have computed the first layer's gradient: not in
        every step, as it may wait for a core or for the other rank."""
        self.trained(epochs=4, bucket_bytes=65536)
        early = 0
        for rank in (0, 1):
            ways, steps = self.buckets(rank), self.spans(rank, name="step")
            last = max(bucket for _, _, bucket in ways)
            self.assertGreater(last, 10)
            self.assertEqual(sorted(b for _, _, b in ways), sorted(list(range(last + 1)) * len(steps)))
            first = sorted(begin for begin, _, bucket in ways if bucket == 0)
            conv1 = self.spans(rank, name="conv1", cat="backward")
            early += sum(begin < span["begin"] for begin, span in zip(first, conv1))
            exchange = {e["tid"] for e in self.events if e["ph"] in "be" and e["pid"] == rank}
            names = {e["args"]["name"] for e in self.events if e["ph"] == "M" and e["name"] == "thread_name"
                     and e["pid"] == rank and e["tid"] in exchange}
            self.assertEqual(names, {"exchange"})
        self.assertGreater(early, 0)

    def test_clocks_of_ranks_agree(self):
        """Nobody leaves an agreement before the last has come: on one clock that shows. A millisecond is for a machine
        on which even the quickest of sixteen questions was slow to be answered."""
        self.trained()
        for name, cat in (("agreement", "wait"),):
            of_ranks = [self.spans(rank, name=name, cat=cat) for rank in (0, 1)]
            self.assertEqual(len(of_ranks[0]), len(of_ranks[1]))
            self.assertGreaterEqual(len(of_ranks[0]), 4)
            for pair in zip(*of_ranks):
                begin, end = max(s["begin"] for s in pair), min(s["end"] for s in pair)
                self.assertGreaterEqual(end, begin - 1e6, pair)

    def test_auto_decodes_on_the_cores_that_are_left(self):
        cores = max(1, len(os.sched_getaffinity(0)) // 2)  # of each of two ranks
        for computing in (1, 4):
            self.trained(threads=computing)
            want = (computing + 1) // 2 if cores <= computing else min(cores - computing, computing)
            names = {e["args"].get("name") for e in self.events if e["ph"] == "M" and e["pid"] == 0 and e["name"] == "thread_name"}
            # As many train as validate.
            self.assertEqual({name for name in names if name.startswith("decode")},
                             {"decode", *(f"decode {n}" for n in range(2, 2 * want + 1))})

    def test_ranks_and_threads_have_names_and_rank_0_saves(self):
        self.trained(decode_threads=2)
        names = {(e["pid"], e["tid"], e["name"]): e["args"].get("name") for e in self.events if e["ph"] == "M"}
        for rank in (0, 1):
            self.assertRegex(names[rank, 0, "process_name"], rf"^rank {rank} on \S+$")
            self.assertEqual(names[rank, 1, "thread_name"], "main")
            threads = {name for (pid, _, what), name in names.items() if what == "thread_name" and pid == rank}
            # Those of the second validation go on where those of the first were.
            self.assertEqual(threads, {"main", "exchange", "decode", "decode 2", "decode 3", "decode 4"})
            for name in ("read", "decode", "transform"):
                tids = {s["tid"] for s in self.spans(rank, name=name)}
                self.assertTrue(tids and 1 not in tids, name)
            # 32 pictures twice to train, 6 twice to validate; each is some rank's, and some more are read ahead.
            self.assertGreaterEqual(len(self.spans(rank, name="decode")), 32)
        for name in ("checkpoint", "copy", "digest", "write", "commit", "model"):
            self.assertTrue(self.spans(0, name=name, cat="checkpoint"), name)
        self.assertEqual(self.spans(1, cat="checkpoint"), [])
        saved = self.spans(0, name="checkpoint")[-1]
        self.assertEqual(saved["args"], {"step": 4})
        self.assertEqual([s["name"] for s in self.within(saved, cat="checkpoint")][:5],
                         ["checkpoint", "copy", "digest", "write", "commit"])

    def test_one_rank_and_a_benchmark(self):
        self.trained(ranks=1)
        self.assertEqual({e["pid"] for e in self.events}, {0})
        self.assert_nests()
        self.assertEqual(self.convoy(2, *self.options(data=None, bench_steps=2, trace="b.json")), 0, self.err)
        self.read("b.json")
        self.assert_nests()
        for rank in (0, 1):
            self.assertGreaterEqual(len(self.spans(rank, name="step")), 2)

    # --- however a run ends ---

    def test_stopped_run_writes_its_trace(self):
        process = self.start(CONVOY, "train", "--ranks-per-host=2",
                             *self.options(epochs=1000, trace="t.json", checkpoint="checkpoint"))
        wait_until(lambda: '"step"' in self.metrics())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.wait(process), 75, self.err)
        self.read()
        self.assert_nests()
        for rank in (0, 1):
            self.assertTrue(self.spans(rank, name="step"))

    def metrics(self):
        try:
            return self.text("report/metrics.jsonl")
        except FileNotFoundError:
            return ""

    def test_run_that_fails_on_all_ranks_writes_its_trace(self):
        self.assertEqual(self.convoy(2, *self.options(epochs=12, lr="1e6", warmup_epochs=0, weight_decay=1000,
                                                      lr_schedule="constant", trace="t.json")), 1, self.err)
        self.assert_one_error("finite")
        self.read()
        for rank in (0, 1):
            self.assertTrue(self.spans(rank, name="agreement"))

    def test_trace_that_cannot_be_written_is_a_warning(self):
        os.mkdir(self.path("traces"))
        process = self.start(CONVOY, "train", "--ranks-per-host=2", *self.options(epochs=20, trace="traces/t.json"))
        wait_until(lambda: '"step"' in self.metrics())
        shutil.rmtree(self.path("traces"))
        self.assertEqual(self.wait(process), 0, self.err)
        self.assertIn("warning: cannot make 'traces/t.json': No such file or directory; there is no trace", self.err)
        self.sha256()

    # --- its option ---

    def test_path_that_cannot_be_is_refused_before_anything_is_done(self):
        os.mkdir(self.path("folder"))
        for path, word in (("none/t.json", "No such file"), ("folder", "is a folder"), ("s3://bucket/t.json", "local"),
                           ("", "--trace")):
            with self.subTest(path):
                self.assertEqual(self.convoy(2, *self.options(trace=path)), 2)
                self.assert_one_error("--trace", word)
                self.assertEqual(sorted(os.listdir(self.folder)), ["folder", "stderr", "stdout"])

    def test_plan_of_memory_has_it(self):
        taken = {}
        for trace in (None, "t.json"):
            self.assertEqual(self.convoy(1, *self.options(memory="true", trace=trace)), 0, self.err)
            taken[trace] = float(re.search(r"^together +([0-9.]+)$", self.out, re.M)[1])
        self.assertIn("(--trace)", self.out)
        self.assertAlmostEqual(taken["t.json"] - taken[None], 16, delta=0.11)


if __name__ == "__main__":
    main(Trace)
