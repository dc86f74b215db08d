#!/usr/bin/env python3
"""--audit FILE and `convoy audit`: exactly once over stops, resumes and rank counts; what is lost or repeated is named."""
import glob
import os
import re
import shutil
import signal
import struct

from job import CONVOY, Job, descendants, main, tell_otherwise, wait_until

MAGIC = b"CVYAUD1\n"
BEGIN, STEP, END = 1, 2, 3
EPOCH = 2  # steps of one, of 32 pictures


def _table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        yield byte


TABLE = list(_table())


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


def frames_of(data):
    """The bodies of a file's frames, as trainer/audit/record.h has them."""
    assert data.startswith(MAGIC)
    at, bodies = len(MAGIC), []
    while at < len(data):
        length, check = struct.unpack_from("<II", data, at)
        body = data[at + 8:at + 8 + length]
        assert check == crc32c(data[at:at + 4]) and struct.unpack_from("<I", data, at + 8 + length)[0] == crc32c(body)
        bodies.append(bytearray(body))
        at += 12 + length
    return bodies


def frame(body):
    length = struct.pack("<I", len(body))
    return length + struct.pack("<I", crc32c(length)) + bytes(body) + struct.pack("<I", crc32c(body))


def file_of(bodies):
    return MAGIC + b"".join(frame(body) for body in bodies)


class Audit(Job):
    def trains(self, ranks=2, status=0, **more):
        options = dict(dict(audit="run.audit", checkpoint="saved", checkpoint_every=1, keep=99), **more)
        self.assertEqual(self.convoy(ranks, *self.options(**options)), status, self.err)

    def audit(self, *words, status=0):
        self.assertEqual(self.wait(self.start(CONVOY, "audit", *words)), status, self.out + self.err)

    def assert_clean(self, steps, *words, **counts):
        self.audit("run.audit", *words)
        last = self.out.splitlines()[-1]
        self.assertTrue(last.startswith(f"exactly once: steps={steps} "), self.out)
        for name, value in counts.items():
            self.assertRegex(last, rf" {name}={value}\b")
        self.assertEqual(self.err, "")

    def assert_named(self, *texts, words=("run.audit",)):
        self.audit(*words, status=2)
        self.assertNotIn("exactly once:", self.out)
        for text in texts:
            self.assertIn(text, self.out + self.err)

    def change(self, change, name="run.audit"):
        """A file as somebody would make it who knows its sums."""
        with open(self.path(name), "rb") as file:
            bodies = frames_of(file.read())
        with open(self.path(name), "wb") as file:
            file.write(file_of(change(bodies)))

    # --- what is clean ---

    def test_the_bits_are_those_of_a_run_without(self):
        self.trains(audit=None, checkpoint=None)
        without = self.sha256()
        self.trains(checkpoint=None)
        self.assertEqual(self.sha256(), without)
        self.assert_clean(EPOCH, trained=32, left_out=0, launches=1)
        self.assertEqual(sorted(os.path.basename(p) for p in glob.glob(self.path("run.audit*"))),
                         ["run.audit", "run.audit.rank-1"])

    def test_resumed_with_other_numbers_of_ranks(self):
        for epochs, ranks in enumerate((1, 2, 3, 1), 1):  # a step has two micro-batches: a third rank idles
            self.trains(ranks, epochs=epochs)
        self.assert_clean(4 * EPOCH, epochs=4, launches=4)
        self.assert_clean(4 * EPOCH, "--train", self.train)

    def killed_after(self, step, number, ranks, **more):
        options = self.options(epochs=40, audit="run.audit", checkpoint="saved", checkpoint_every=3, **more)
        process = self.start(CONVOY, "train", f"--ranks-per-host={ranks}", *options)
        wait_until(lambda: process.poll() is not None or any(e["step"] >= step for e in self.events("step")))
        self.assertIsNone(process.poll(), self.text("stderr"))
        if number == signal.SIGKILL:
            for pid in [process.pid, *descendants(process.pid)]:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
        else:
            process.send_signal(number)
        self.wait(process)

    def test_killed_and_stopped(self):
        """Steps after the last checkpoint are done twice, and count once."""
        self.killed_after(8, signal.SIGKILL, 2)
        self.killed_after(20, signal.SIGTERM, 1)
        self.killed_after(31, signal.SIGKILL, 2)
        self.audit("run.audit")
        self.assertIn("exactly once: ", self.out)
        self.trains(2, epochs=40, checkpoint_every=3)
        self.assert_clean(40 * EPOCH, epochs=40, launches=4)

    def test_killed_before_anything_was_saved(self):
        """The next start begins anew, in the same files."""
        options = self.options(epochs=40, audit="run.audit", checkpoint="saved", checkpoint_every="1h")
        process = self.start(CONVOY, "train", "--ranks-per-host=1", *options)
        wait_until(lambda: self.events("step"))
        process.kill()
        self.wait(process)
        shutil.rmtree(self.path("saved"), ignore_errors=True)
        self.trains(2, epochs=1)
        self.assert_clean(EPOCH, launches=2)

    def test_pictures_left_out_had_their_turn(self):
        self.copy_of_train()
        for name in self.pictures_of("pictures")[:1]:
            for path in glob.glob(self.path("pictures", "*", name))[:1]:
                with open(path, "wb") as file:
                    file.write(b"no picture")
        self.trains(data=None, train="pictures", epochs=2)
        self.assert_clean(2 * EPOCH, trained=62, left_out=2)

    def test_a_cache_of_features(self):
        self.trains(epochs=3, train_layers="head", augment="none")
        self.assertNotIn("no feature cache", self.err)
        self.assert_clean(3 * EPOCH, trained=96)

    def test_a_set_aside_split_and_a_dropped_batch(self):
        self.trains(data=None, train=self.train, val_split=0.2, last_batch="drop", global_batch=8, micro_batch=4)
        self.assert_clean(3, "--train", self.train, "--val-split=0.2", trained=24)

    # --- what is not ---

    def test_a_step_skipped(self):
        self.trains()
        self.change(lambda bodies: [b for b in bodies if not (b[0] == STEP and b[13] == 2)], "run.audit.rank-1")
        self.assert_named("epoch 0, step 2: rank 1 of generation 1 has no record of it ('run.audit.rank-1')",
                          "epoch 0: picture")

    def repeat(self, bodies):
        """The first picture of the last step becomes that of the first one."""
        steps = [b for b in bodies if b[0] == STEP]
        steps[-1][37] = steps[0][37]
        return bodies

    def test_a_picture_trained_twice(self):
        self.trains(ranks=1)
        self.change(self.repeat)
        self.assert_named("epoch 0, step 2, micro-batch 0: picture ", "was repeated", "was lost",
                          "error: not exactly once, 3 faults; the first: epoch 0, step 2")
        self.assert_named("(\'", ".jpg') was lost", words=("run.audit", "--train", self.train))

    def test_another_data_set(self):
        self.trains()
        self.copy_of_train()
        os.remove(glob.glob(self.path("pictures", "*", "*.jpg"))[0])
        self.trains(data=None, train="pictures", audit="other.audit", checkpoint=None)
        self.assert_named("'other.audit' is of another run than 'run.audit'", words=("run.audit", "other.audit"))
        self.assert_named("--train: 'pictures' has other pictures (31) than the run had (32)",
                          words=("run.audit", "--train", "pictures"))
        self.trains(data=None, train="pictures", checkpoint=None, status=2)
        self.assert_one_error("--audit: 'run.audit", "is of another run")

    def test_a_file_that_is_missing(self):
        self.trains()
        os.remove(self.path("run.audit.rank-1"))
        self.assert_named("had 2 ranks, and no file here is of rank 1", "was lost: it was not trained")

    def test_an_earlier_launch_without_a_record(self):
        self.trains(audit=None)
        self.trains(epochs=2)
        self.assert_named("steps 1 to 2 were trained before generation 2")

    def test_the_weights_of_a_checkpoint(self):
        """The steps that led to it and no others; what nobody recorded on the way is named."""
        self.trains()
        saved = sorted(name for name in os.listdir(self.path("saved")) if name.endswith(".safetensors"))
        self.assert_clean(EPOCH, "--checkpoint=saved")
        self.assert_clean(EPOCH - 1, f"--checkpoint=saved/{saved[-2]}")
        self.trains(epochs=2, audit=None)
        self.assert_clean(EPOCH)  # of these files
        self.assert_named("--checkpoint: 'saved' was made by launch ", "and no file here tells of it",
                          words=("run.audit", "--checkpoint=saved"))
        os.mkdir(self.path("empty"))
        self.assert_named("--checkpoint: there is none in 'empty'", words=("run.audit", "--checkpoint=empty"))
        self.assert_named("there is no 'nowhere'", words=("run.audit", "--checkpoint=nowhere"))
        self.assert_named("--last and --checkpoint", words=("run.audit", "--checkpoint=saved", "--last=1"))
        for changes in ({"launch": None}, {"step": "0"}, {"step": ""}):
            shutil.copytree(self.path("saved"), self.path("old"), dirs_exist_ok=True)
            tell_otherwise(self.path("old", saved[-1]), **changes)
            self.assert_named("does not say which launch made it", words=("run.audit", "--checkpoint=" + os.path.join("old", saved[-1])))

    def test_nothing_to_judge(self):
        self.trains()
        self.change(lambda bodies: [b for b in bodies if b[0] == BEGIN])
        os.remove(self.path("run.audit.rank-1"))
        self.assert_named("nothing to judge")

    def test_a_fork(self):
        self.trains()
        self.trains(epochs=2)
        old = [name for name in os.listdir(self.path("saved")) if name.startswith("step-000000000002")][0]
        self.trains(epochs=2, resume=os.path.join("saved", old), checkpoint="elsewhere")
        self.assert_named("the run forked: launch ")
        other = re.search(r"forked: launch (\w+)", self.err)[1]
        self.assert_clean(2 * EPOCH, f"--last={other}")
        self.assert_named("--last: no launch has the id 'x'", words=("run.audit", "--last=x"))

    def test_pictures_of_hosts_have_no_names_here(self):
        self.trains(data=None, train=self.train, host_data="train")
        self.assert_clean(EPOCH)
        self.assert_named("--train: the pictures of this run lay on 1 hosts (--host-data)", words=("run.audit", "--train", self.train))

    def test_a_copy(self):
        self.trains()
        shutil.copy(self.path("run.audit"), self.path("again.audit"))
        self.assert_named("both tell of rank 0", words=("run.audit", "again.audit"))
        self.audit("run.audit", "run.audit.rank-1", "run.audit")  # these are the same files

    def test_files_of_hosts_apart(self):
        self.trains()
        for host, name in (("a", "run.audit"), ("b", "run.audit.rank-1")):
            os.mkdir(self.path(host))
            os.rename(self.path(name), self.path(host, name))
        self.audit("a/run.audit", "b/run.audit")
        self.assertIn("exactly once: ", self.out)

    def test_damage_and_what_is_no_audit(self):
        self.trains()
        with open(self.path("run.audit"), "r+b") as file:
            file.seek(60)
            file.write(b"\xff\xff")
        self.assert_named("'run.audit' is damaged at byte 8")
        self.assert_named("or no audit", words=(os.path.join(self.folder, "report", "metrics.jsonl"),))
        self.assert_named("cannot open 'nowhere'", words=("nowhere",))
        self.audit(status=2)
        self.assertIn("name the files first", self.err)

    # --- a proof with holes is none ---

    def test_a_record_that_cannot_be_written_ends_the_run(self):
        self.trains(ranks=1, checkpoint=None)
        with open(self.path("run.audit"), "rb") as file:
            begin = frame(frames_of(file.read())[0])
        with open(self.path("run.audit"), "wb") as file:  # room for one begin more, and no step
            file.write(MAGIC + begin * ((10000000 - len(MAGIC)) // len(begin) - 1))
        options = self.options(audit="run.audit")
        self.assertEqual(self.convoy(2, *options, file_bytes_max=10000000), 1, self.err)
        self.assert_one_error("cannot write the audit 'run.audit'", "File too large")
        os.remove(self.path("run.audit"))
        os.mkdir(self.path("run.audit"))
        self.assertEqual(self.convoy(2, *options), 1, self.err)
        self.assert_one_error("--audit: cannot open 'run.audit'")
        self.assertEqual(self.convoy(1, *self.options(audit="s3://bucket/audit")), 2)
        self.assert_one_error("--audit")


if __name__ == "__main__":
    main(Audit)
