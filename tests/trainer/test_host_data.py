#!/usr/bin/env python3
"""--host-data: pictures of which each host has a share of its own, as SageMaker's ShardedByS3Key gives them: two and three hosts of
this machine with a tree each, and the real programs."""
import contextlib
import glob
import io
import json
import os
import shutil
import struct
import sys
import tarfile
import threading

from job import CONVOY, Job, main, tell_otherwise

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "launcher"))
import hosts_case  # noqa: E402

SMALL = {"num_layers": "20", "image_shape": "3,8,8", "epochs": "2", "mini_batch_size": "8", "micro_batch": "4", "threads": "1"}


class HostData(Job):
    AT_ONCE = 2

    def job(self, hosts, share, distribution=None, words=(), **hyperparameters):
        """A job of so many hosts; share(host, channel, key) says whether a host has a picture."""
        folder = self.path(f"job-{len(os.listdir(self.folder))}")
        os.mkdir(folder)
        job = hosts_case.Job(folder, [f"algo-{i + 1}" for i in range(hosts)], words=words)
        job.convoy = CONVOY
        channels = distribution or {"training": "ShardedByS3Key", "validation": "ShardedByS3Key"}
        for number, host in enumerate(job.hosts.values()):
            config = os.path.join(host.base, "input", "config")
            with open(os.path.join(config, "hyperparameters.json"), "w") as file:
                json.dump({**SMALL, **hyperparameters}, file)
            with open(os.path.join(config, "inputdataconfig.json"), "w") as file:
                json.dump({name: {"TrainingInputMode": "File", "S3DistributionType": how} for name, how in channels.items()}, file)
            for channel in channels:
                source = os.path.join(self.data, "val" if channel.lower() == "validation" else "train")
                for top, _, names in os.walk(source):
                    for name in names:
                        key = os.path.relpath(os.path.join(top, name), source)
                        if share(number, channel, key):
                            target = os.path.join(host.base, "input", "data", channel, key)
                            os.makedirs(os.path.dirname(target), exist_ok=True)
                            shutil.copy(os.path.join(top, name), target)
        return job

    def run_job(self, job):
        statuses = set(job.start().wait(240).values())
        self.assertEqual(len(statuses), 1, statuses)
        self.log = job["algo-1"].log()
        return statuses.pop()

    @staticmethod
    def hyperparameters(host, **more):
        with open(os.path.join(host.base, "input", "config", "hyperparameters.json"), "w") as file:
            json.dump({**SMALL, **more}, file)

    @staticmethod
    def nth(key):
        return int("".join(c for c in key if c.isdigit()) or 0)

    def events_of(self, job, *kinds):
        with open(os.path.join(job["algo-1"].base, "output", "data", "metrics.jsonl")) as file:
            return [event for event in map(json.loads, file) if event["event"] in kinds]

    def test_uneven_hosts_train_each_picture_once_an_epoch(self):
        job = self.job(3, lambda host, _, key: self.nth(key) % 8 in ((0, 1, 2, 3, 4), (5, 6), (7,))[host], mini_batch_size="4")
        self.assertEqual(self.run_job(job), 0, self.log)
        trained = sum(len(names) for _, _, names in os.walk(self.train))
        self.assertEqual([event["images"] for event in self.events_of(job, "epoch")], [trained] * 2)
        held = sum(len(names) for _, _, names in os.walk(os.path.join(self.data, "val")))
        self.assertEqual([event["images"] for event in self.events_of(job, "eval")], [held] * 2)
        steps = [event["images"] for event in self.events_of(job, "step")]
        self.assertEqual(sum(steps), 2 * trained)
        self.assertLess(min(steps), 12)  # a host was through, and the others went on

    def test_a_host_without_pictures_takes_part(self):
        job = self.job(2, lambda host, channel, _: host == (0 if channel == "training" else 1))
        self.assertEqual(self.run_job(job), 0, self.log)
        trained = sum(len(names) for _, _, names in os.walk(self.train))
        self.assertEqual([event["images"] for event in self.events_of(job, "epoch")], [trained] * 2)
        self.assertIn("host 'algo-2' has none of the ", self.log)

    def test_the_same_shares_give_the_same_bits_and_ranks_of_a_host_share_them(self):
        sums = set()
        for ranks, threads in ((1, "1"), (1, "2"), (2, "1")):
            job = self.job(2, lambda host, _, key: self.nth(key) % 3 > 0 if host == 0 else self.nth(key) % 3 == 0,
                           words=[f"--ranks-per-host={ranks}"], threads=threads)
            self.assertEqual(self.run_job(job), 0, self.log)
            sums.add(self.log.split("weights sha256=")[1].split()[0])
        self.assertEqual(len(sums), 1, sums)

    def test_validation_may_be_whole_on_each_host(self):
        job = self.job(2, lambda host, channel, key: channel == "validation" or self.nth(key) % 2 == host,
                       {"training": "ShardedByS3Key", "validation": "FullyReplicated"})
        self.assertEqual(self.run_job(job), 0, self.log)
        held = sum(len(names) for _, _, names in os.walk(os.path.join(self.data, "val")))
        self.assertEqual([event["images"] for event in self.events_of(job, "eval")], [held] * 2)

    def test_channels_are_called_as_somebody_wrote_them(self):
        job = self.job(2, lambda host, channel, key: self.nth(key) % 2 == host, {"Training": "ShardedByS3Key", "Validation": "ShardedByS3Key"})
        self.assertEqual(self.run_job(job), 0, self.log)
        held = sum(len(names) for _, _, names in os.walk(os.path.join(self.data, "val")))
        self.assertEqual([event["images"] for event in self.events_of(job, "eval")], [held] * 2)

    def test_the_only_channel_trains_whatever_its_name_and_a_channel_of_other_things_does_not(self):
        job = self.job(2, lambda host, channel, key: self.nth(key) % 2 == host, {"dogs-1": "ShardedByS3Key"})
        self.assertEqual(self.run_job(job), 0, self.log)
        self.assertIn("16 of 32 pictures are on host 'algo-2'", self.log)
        job = self.job(2, lambda host, channel, key: channel == "training" or self.nth(key) % 2 == host,
                       {"training": "FullyReplicated", "code": "ShardedByS3Key"})
        self.assertEqual(self.run_job(job), 0, self.log)
        self.assertIn("training: 32 pictures", self.log)

    def test_a_channel_whose_folder_is_named_trains(self):
        job = self.job(2, lambda host, channel, key: self.nth(key) % 2 == host, {"dogs-1": "ShardedByS3Key"})
        for host in job.hosts.values():
            self.hyperparameters(host, train=os.path.join(host.base, "input", "data", "dogs-1") + "/")
        self.assertEqual(self.run_job(job), 0, self.log)
        self.assertIn("16 of 32 pictures are on host 'algo-2'", self.log)

    def test_a_share_of_validation_alone_is_refused_by_the_channels_name(self):
        job = self.job(2, lambda host, channel, key: channel == "training" or self.nth(key) % 2 == host,
                       {"training": "FullyReplicated", "validation": "ShardedByS3Key"})
        self.assertEqual(self.run_job(job), 2, self.log)
        for said in ("'validation' (on SageMaker S3DistributionType ShardedByS3Key)",
                     "make it FullyReplicated, or shard the training channel too"):
            self.assertIn(said, self.log)
            self.assertIn(said, job["algo-1"].failure())

    def test_what_cannot_be_is_one_line(self):
        for share, more, said in ((lambda host, _, key: True, {}, "hosts 'algo-1' and 'algo-2' both have '"),
                                  (lambda host, channel, key: False, {}, "there is no picture in '"),
                                  (lambda host, _, key: key.startswith("00"), {}, "' has one class only ('00-")):
            job = self.job(2, share, **more)
            self.assertEqual(self.run_job(job), 2, self.log)
            self.assertIn(said, self.log)
            self.assertIn(said, job["algo-2"].failure())

    def pipe(self, job, channel, streams):
        """The channel in Pipe mode, a stream for each host, whose writer is there when the FIFO is opened."""
        def write(fifo, stream):
            with contextlib.suppress(BrokenPipeError), open(fifo, "wb") as file:
                file.write(stream)
        for host, stream in zip(job.hosts.values(), streams):
            path = os.path.join(host.base, "input", "config", "inputdataconfig.json")
            with open(path) as file:
                config = json.load(file)
            config[channel] = {"TrainingInputMode": "Pipe", "S3DistributionType": "ShardedByS3Key"}
            with open(path, "w") as file:
                json.dump(config, file)
            fifo = os.path.join(host.base, "input", "data", f"{channel}_0")
            os.makedirs(os.path.dirname(fifo), exist_ok=True)
            os.mkfifo(fifo)
            threading.Thread(target=write, args=(fifo, stream), daemon=True).start()

    def records(self, share):
        """RecordIO as im2rec writes it, of the training pictures that share(number) takes; labels are the places of classes."""
        records, classes = b"", sorted(os.listdir(self.train))
        for label, name in enumerate(classes):
            for picture in sorted(os.listdir(os.path.join(self.train, name))):
                if share(self.nth(picture)):
                    with open(os.path.join(self.train, name, picture), "rb") as file:
                        data = struct.pack("<IfQQ", 0, label, 0, 0) + file.read()
                    self.assertNotIn(struct.pack("<I", 0xced7230a), data)
                    records += struct.pack("<II", 0xced7230a, len(data)) + data + bytes(-len(data) % 4)
        return records

    def test_pipe_channels_bring_each_host_a_share(self):
        job = self.job(2, lambda *_: False, {"training": "ShardedByS3Key"})
        self.pipe(job, "training", [self.records(lambda n: n % 3 > 0), self.records(lambda n: n % 3 == 0)])
        self.assertEqual(self.run_job(job), 0, self.log)
        trained = sum(len(names) for _, _, names in os.walk(self.train))
        self.assertEqual([event["images"] for event in self.events_of(job, "epoch")], [trained] * 2)

    def test_pipe_channels_that_bring_the_same_are_refused(self):
        job = self.job(2, lambda *_: False, {"training": "ShardedByS3Key"})
        self.pipe(job, "training", [self.records(lambda n: True)] * 2)
        self.assertEqual(self.run_job(job), 2, self.log)
        self.assertIn("hosts 'algo-1' and 'algo-2' both have '", self.log)

    def test_words_that_are_none(self):
        for words, said in (("frob", "'frob' is not train, val or test"), ("val", "training pictures")):
            self.assertEqual(self.convoy(1, *self.options(host_data=words)), 2)
            self.assert_one_error("--host-data", said)
        self.env["CONVOY_HOST_DATA"] = "trian"
        self.assertEqual(self.convoy(1, *self.options()), 2)
        self.assert_one_error("CONVOY_HOST_DATA", "'trian' is not train, val or test, and there is no channel of this name")

    def test_a_stopped_job_goes_on_to_the_same_bits(self):
        def share(host, _, key):
            return self.nth(key) % 3 > 0 if host == 0 else self.nth(key) % 3 == 0
        whole, parted = self.job(2, share), self.job(2, share, max_steps="3")
        self.assertEqual(self.run_job(whole), 0, self.log)
        sha = self.log.split("weights sha256=")[1].split()[0]
        self.assertEqual(self.run_job(parted), 0, self.log)
        self.assertNotIn(sha, self.log)
        for host in parted.hosts.values():
            self.hyperparameters(host)
        self.assertEqual(self.run_job(parted), 0, self.log)
        self.assertIn("resuming at step 3", self.log)
        self.assertEqual(self.log.split("weights sha256=")[1].split()[0], sha)

    def test_an_audit_proves_each_picture_once(self):
        """Over a stop, with an uneven part each; and other ranks on the hosts are refused."""
        def share(host, _, key):
            return self.nth(key) % 3 > 0 if host == 0 else self.nth(key) % 3 == 0
        job = self.job(2, share)
        for host in job.hosts.values():
            self.hyperparameters(host, max_steps="3", audit=os.path.join(host.base, "run.audit"))
        self.assertEqual(self.run_job(job), 0, self.log)
        for host in job.hosts.values():
            self.hyperparameters(host, audit=os.path.join(host.base, "run.audit"))
        self.assertEqual(self.run_job(job), 0, self.log)
        self.assertIn("resuming at step 3", self.log)
        files = [os.path.join(host.base, "run.audit") for host in job.hosts.values()]
        self.assertEqual(self.wait(self.start(CONVOY, "audit", *files)), 0, self.out + self.err)
        trained = sum(len(names) for _, _, names in os.walk(self.train))
        self.assertIn(f"epochs=2 trained={2 * trained} left_out=0 launches=2", self.out)

    def test_other_ranks_on_a_host_are_refused(self):
        def share(host, _, key):
            return self.nth(key) % 3 > 0 if host == 0 else self.nth(key) % 3 == 0
        job = self.job(2, share, max_steps="3", mini_batch_size="12")
        self.assertEqual(self.run_job(job), 0, self.log)
        for path in glob.glob(os.path.join(job["algo-1"].base, "checkpoints", "*.safetensors")):
            self.assertEqual(tell_otherwise(path, host_lanes="2,4")["host_lanes"], "3,3")
        self.assertEqual(self.run_job(job), 2, self.log)
        self.assertIn("was made with 2,4 micro-batches of a step on the hosts in their turn, now it would be 3,3", self.log)

    def test_one_host_sets_pictures_aside_of_its_own(self):
        self.copy_of_train()
        self.assertEqual(self.convoy(1, *self.options(data=None, train="pictures", host_data="train", val_split=0.2)), 0, self.err)
        self.assertIn("training: 26 of 26 pictures are on host", self.err)
        self.assertIn("validation: 6 of 6 pictures are on host", self.err)

    def test_hosts_set_pictures_aside_by_what_they_have(self):
        job = self.job(2, lambda host, _, key: (self.nth(key) % 4 > 0) == (host == 0), {"training": "ShardedByS3Key"}, val_split="0.25")
        self.assertEqual(self.run_job(job), 0, self.log)
        for said in ("training: 18 of 24 pictures are on host 'algo-1'", "training: 6 of 24 pictures are on host 'algo-2'",
                     "validation: 6 of 8 pictures are on host 'algo-1'", "validation: 2 of 8 pictures are on host 'algo-2'"):
            self.assertIn(said, self.log)
        self.assertEqual([event["images"] for event in self.events_of(job, "eval")], [8] * 2)

    @staticmethod
    def metadata(path):
        with open(path, "rb") as file:
            return json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))["__metadata__"]

    def test_ranks_that_cannot_share_memory_are_of_one_host_all_the_same(self):
        """apart.c: the exchange takes each for a host, but their pictures and what a checkpoint says of them are one host's."""
        self.keep_apart()
        self.copy_of_train()
        step = dict(global_batch=16, micro_batch=2, epochs=2)
        self.assertEqual(self.convoy(8, *self.options(checkpoint="shared", **step)), 0, self.err)
        self.assertIn("cannot share memory", self.err)
        own = dict(step, data=None, train="pictures", host_data="train")
        self.assertEqual(self.convoy(8, *self.options(**own)), 0, self.err)
        sha = self.sha256()
        self.assertEqual(self.convoy(8, *self.options(checkpoint="own", max_steps=1, **own)), 0, self.err)
        for path in glob.glob(self.path("own", "*.safetensors")):
            self.assertEqual(self.metadata(path)["host_lanes"], "8")
        self.assertEqual(self.convoy(8, *self.options(checkpoint="own", **own)), 0, self.err)
        self.assertIn("resuming at step 1", self.err)
        self.assertEqual(self.sha256(), sha)

    def test_a_checkpoint_knows_whether_pictures_are_the_hosts_own(self):
        """What it says is taken; what is given must be the same, whichever of the names it has."""
        self.copy_of_train()
        step = dict(data=None, train="pictures", epochs=2)
        self.assertEqual(self.convoy(1, *self.options(host_data="train", **step)), 0, self.err)
        sha = self.sha256()
        self.assertEqual(self.convoy(1, *self.options(host_data="train", checkpoint="own", max_steps=1, **step)), 0, self.err)
        for number, given in enumerate((None, "train", "training")):
            shutil.copytree(self.path("own"), self.path(f"own-{number}"))
            self.assertEqual(self.convoy(1, *self.options(host_data=given, checkpoint=f"own-{number}", **step)), 0, self.err)
            self.assertIn("resuming at step 1", self.err)
            self.assertEqual(self.sha256(), sha)
        self.assertEqual(self.convoy(1, *self.options(host_data="train,val", checkpoint="own", val="pictures", **step)), 2, self.err)
        self.assert_one_error("--host-data is train,val, but the checkpoint '", "was made with train: ")

    def test_a_checkpoint_of_pictures_that_all_have_is_not_resumed_with_the_hosts_own(self):
        self.copy_of_train()
        step = dict(data=None, train="pictures", epochs=2, checkpoint="all")
        self.assertEqual(self.convoy(1, *self.options(max_steps=1, **step)), 0, self.err)
        self.assertEqual(self.convoy(1, *self.options(host_data="train", **step)), 2, self.err)
        self.assert_one_error("--host-data is train, but the checkpoint '", "was made without")
        for path in glob.glob(self.path("all", "*.safetensors")):  # as before it said so
            self.assertEqual(tell_otherwise(path, **{"option.host-data": None})["option.host-data"], "")
        self.assertEqual(self.convoy(1, *self.options(host_data="train", **step)), 2, self.err)
        self.assert_one_error("was made without --host-data")
        self.assertEqual(self.convoy(1, *self.options(**step)), 0, self.err)

    def test_what_is_found_in_tars_is_kept_in_the_cache(self):
        os.mkdir(self.path("tars"))
        for part in range(2):
            with tarfile.open(self.path("tars", f"{part}.tar"), "w") as tar:
                for label, name in enumerate(sorted(os.listdir(self.train))):
                    for picture in sorted(os.listdir(os.path.join(self.train, name)))[part::2]:
                        tar.add(os.path.join(self.train, name, picture), f"{label}-{self.nth(picture)}.jpg")
                        member = tarfile.TarInfo(f"{label}-{self.nth(picture)}.cls")
                        member.size = 1
                        tar.addfile(member, io.BytesIO(b"%d" % label))
        self.assertEqual(self.convoy(1, *self.options(data=None, train="tars", host_data="train", val_split=0.2, cache="kept")), 0, self.err)
        self.assertEqual(len(os.listdir(self.path("kept", "index"))), 2)


if __name__ == "__main__":
    main(HostData)
