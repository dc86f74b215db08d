#!/usr/bin/env python3
"""tests/aws/smoke with a stand-in for aws and docker: what it asks before it spends, in which order, and what it leaves."""
import base64
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
# Calls that change nothing in an account.
HARMLESS = ("sts get-caller-identity", "configure export-credentials", "sagemaker describe-training-job",
            "logs describe-log-streams", "logs get-log-events", "ecr get-authorization-token", "s3 cp")
REMOVALS = ["ecr delete-repository", "iam delete-role-policy", "iam delete-role", "s3 rb"]


def load_smoke():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("smoke", os.path.join(HERE, "smoke"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("smoke", loader))
    loader.exec_module(module)
    return module


smoke = load_smoke()


class Stage:
    """In place of smoke.run(): answers what aws and docker would, as far as smoke looks, and keeps all calls."""

    def __init__(self, mode, interrupts=()):
        self.mode, self.interrupts, self.calls, self.request = mode, interrupts, [], None
        self.counts, self.status = {}, None

    def run(self, words, given=None, env=None):
        self.calls.append(words)
        verb = " ".join(words[1:3])
        self.counts[verb] = self.counts.get(verb, 0) + 1
        if verb in self.interrupts and self.counts[verb] == 1:
            os.kill(os.getpid(), signal.SIGINT)
        if words[0] in ("docker", "podman"):
            return self.docker(words)
        answer = getattr(self, verb.replace(" ", "_").replace("-", "_"), lambda words: "")(words)
        return answer if isinstance(answer, str) else json.dumps(answer)

    def fail(self, code, text=""):
        raise smoke.Failed(f"aws ...: exit status 254: An error occurred ({code}) when calling the operation: {text}")

    def docker(self, words):
        if words[1] != "run":
            return ""
        folder = words[words.index("-v") + 1].split(":")[0]
        if "train" in words:
            os.makedirs(os.path.join(folder, "model"))
            with open(os.path.join(folder, "model", "model.safetensors"), "wb") as model:
                model.write(b"weights")
            return "Epoch[2] Validation-accuracy=0.9\nweights sha256=" + "ab" * 32 + "\n"
        return "2 objects" if "ls" in words else ""

    def sts_get_caller_identity(self, words):
        if self.mode == "no account":
            raise smoke.Failed("Unable to locate credentials")
        return {"Account": "123456789012"}

    def configure_export_credentials(self, words):
        return "AWS_ACCESS_KEY_ID=AKIDEXAMPLE\nAWS_SECRET_ACCESS_KEY=not-a-secret\n"

    def iam_create_role(self, words):
        return {"Role": {"Arn": "arn:aws:iam::123456789012:role/new"}}

    def ecr_get_authorization_token(self, words):
        token = base64.b64encode(b"AWS:password-of-the-registry").decode()
        return {"authorizationData": [{"authorizationToken": token}]}

    def sagemaker_create_training_job(self, words):
        if self.mode == "role is new" and self.counts["sagemaker create-training-job"] < 3:
            self.fail("ValidationException", "Could not assume role")
        with open(words[words.index("--cli-input-json") + 1].removeprefix("file://")) as file:
            self.request = json.load(file)
        if "--generate-cli-skeleton" not in words:
            self.status = "InProgress"
        if self.mode == "answer is lost":
            raise smoke.Failed("Connection was closed before we received a valid response")
        return {"TrainingJobArn": "arn"}

    def sagemaker_stop_training_job(self, words):
        self.status = "Stopping"
        return ""

    def sagemaker_describe_training_job(self, words):
        if self.status is None:
            self.fail("ValidationException", "Requested resource not found.")
        said = self.status
        ends = {"job fails": "Failed", "job is long": "InProgress"}.get(self.mode, "Completed")
        self.status = {"InProgress": ends, "Stopping": "Stopped"}.get(said)
        return {"TrainingJobStatus": said, "SecondaryStatus": said, "BillableTimeInSeconds": 100,
                "FailureReason": "AlgorithmError: exit code 3",
                "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/output/model.tar.gz"}}

    def logs_describe_log_streams(self, words):
        if self.mode == "no log":
            self.fail("ResourceNotFoundException")
        prefix = words[words.index("--log-stream-name-prefix") + 1]
        return {"logStreams": [{"logStreamName": prefix + host} for host in ("algo-1", "algo-2")]}

    def logs_get_log_events(self, words):
        return {"events": [{"message": "the last line of " + words[words.index("--log-stream-name") + 1][-6:]}]}

    def s3_cp(self, words):
        content = b"others!" if self.mode == "other model" else b"weights"
        with tarfile.open(words[4], "w:gz") as tar:
            member = tarfile.TarInfo("./model.safetensors")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        return ""


class Smoke(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.mkdtemp(prefix="convoy-fake-aws-")
        self.addCleanup(shutil.rmtree, self.temporary)
        for number in smoke.INTERRUPTS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        for patch in (mock.patch.object(smoke, "POLL_S", 0), mock.patch.object(tempfile, "tempdir", self.temporary),
                      mock.patch.object(platform, "machine", lambda: "x86_64"),
                      mock.patch.dict(os.environ, {"AWS_REGION": "us-east-1"})):
            patch.start()
            self.addCleanup(patch.stop)

    def smoke(self, *words, mode="", interrupts=(), typed=None):
        """Exit status; its output is in self.out, what it called in self.stage. interrupts: calls that a Ctrl-C meets."""
        self.stage = Stage(mode, interrupts)
        out, terminal = io.StringIO(), io.StringIO(typed)
        terminal.isatty = lambda: typed is not None
        with mock.patch.object(smoke, "run", self.stage.run), mock.patch.object(sys, "argv", ["smoke", *words]), \
                mock.patch.object(sys, "stdin", terminal), contextlib.redirect_stdout(out), \
                contextlib.redirect_stderr(out):
            try:
                status = smoke.main()
            except SystemExit as error:
                status = error.code
        self.out = out.getvalue()
        return status

    def calls(self, program="aws"):
        return [words[1:] for words in self.stage.calls if words[0] == program]

    def changes(self):
        verbs = [" ".join(words[:2]) for words in self.calls()]
        return [verb for verb in verbs if verb not in HARMLESS]

    def test_without_yes_it_says_the_price_and_changes_nothing(self):
        self.assertEqual(self.smoke(), 2)
        self.assertEqual([words[:2] for words in self.calls()], [["sts", "get-caller-identity"]])
        self.assertEqual(self.calls("docker"), [])
        self.assertIn("price: at most 2 x ml.c5.xlarge x (15 + 5) min x 0.204 USD/h = 0.14 USD (on demand, not spot)",
                      self.out)
        self.assertIn("account 123456789012", self.out)
        self.assertIn("--yes", self.out)

    def test_on_a_terminal_it_asks_after_it_said_the_price(self):
        self.assertEqual(self.smoke(typed="no\n"), 2)
        self.assertEqual(self.changes(), [])
        self.assertLess(self.out.index("price:"), self.out.index("type yes"))
        self.assertEqual(self.smoke(typed="yes\n"), 0, self.out)
        self.assertIn("sagemaker create-training-job", self.changes())

    def test_a_dry_run_shows_the_request_and_asks_no_account(self):
        self.assertEqual(self.smoke("--dry-run", "--yes"), 0, self.out)
        (call,) = self.calls()
        self.assertEqual(call[-6:-4], ["--generate-cli-skeleton", "output"])  # then --region and --output
        self.assertIn("price: at most", self.out)
        self.assertIn('"InstanceCount": 2', self.out)
        self.assertNotIn(self.stage.request["Environment"]["CONVOY_JOB_KEY"], self.out)

    def test_the_price_follows_instance_minutes_and_price(self):
        self.smoke("--instance=ml.c5.24xlarge", "--price=4.896", "--minutes=30", "--spot")
        self.assertIn("2 x ml.c5.24xlarge x (30 + 5) min x 4.896 USD/h = 5.71 USD (list price; spot costs less)", self.out)

    def test_an_instance_without_a_known_price_is_refused(self):
        self.assertEqual(self.smoke("--instance=ml.p4d.24xlarge", "--yes"), 2)
        self.assertIn("no price is known for 'ml.p4d.24xlarge'", self.out)
        self.assertEqual(self.calls(), [])

    def test_without_an_account_it_ends_in_one_line_that_says_what_to_do(self):
        self.assertEqual(self.smoke("--yes", mode="no account"), 1)
        self.assertIn("no AWS account", self.out)
        self.assertIn("aws configure", self.out)
        self.assertEqual(self.changes(), [])

    def test_it_trains_here_then_makes_runs_compares_and_removes(self):
        self.assertEqual(self.smoke("--yes"), 0, self.out)
        self.assertEqual(self.changes(), [
            "s3 mb", "iam create-role", "iam put-role-policy", "ecr create-repository", "sagemaker create-training-job",
            "logs delete-log-stream", "logs delete-log-stream", *REMOVALS])
        programs = [next(word for word in ("synth", "train", "pack", "ls") if word in words)
                    for words in self.calls("docker") if words[0] == "run"]
        self.assertEqual(programs, ["synth", "train", "pack", "ls"])
        self.assertIn("the last line of algo-1", self.out)
        self.assertIn("PASS", self.out)
        self.assertIn("ab" * 32, self.out)
        self.assertEqual(os.listdir(self.temporary), [], "nothing is left on this machine")

    def test_the_request_is_a_job_of_two_instances_that_ends_by_itself(self):
        self.smoke("--yes", "--minutes=7", "--spot")
        request = self.stage.request
        self.assertEqual(request["ResourceConfig"]["InstanceCount"], 2)
        self.assertEqual(request["StoppingCondition"], {"MaxRuntimeInSeconds": 420, "MaxWaitTimeInSeconds": 840})
        self.assertTrue(request["EnableManagedSpotTraining"])
        self.assertRegex(request["Environment"]["CONVOY_JOB_KEY"], "^[0-9a-f]{64}$")
        self.assertRegex(request["Environment"]["SM_CHANNEL_TRAINING"], "^s3://convoy-smoke-[0-9a-f]{8}/shards/train$")
        for name in ("111122223333", "convoy-example", "eu-west-1"):
            self.assertNotIn(name, json.dumps(request), "no name of the example is left")

    def test_keys_are_on_no_command_line(self):
        self.smoke("--yes")
        self.assertNotIn("not-a-secret", json.dumps(self.stage.calls) + self.out)
        self.assertNotIn("password-of-the-registry", json.dumps(self.stage.calls) + self.out)

    def test_a_role_that_is_not_known_yet_is_tried_again(self):
        self.assertEqual(self.smoke("--yes", mode="role is new"), 0, self.out)
        self.assertEqual(self.changes().count("sagemaker create-training-job"), 3)

    def test_a_role_that_is_given_is_neither_made_nor_removed(self):
        self.smoke("--yes", "--role=arn:aws:iam::123456789012:role/mine")
        self.assertEqual([verb for verb in self.changes() if verb.startswith("iam ")], [])

    def test_a_job_that_fails_is_said_and_everything_but_its_log_is_removed(self):
        self.assertEqual(self.smoke("--yes", mode="job fails"), 1)
        self.assertIn("AlgorithmError: exit code 3", self.out)
        self.assertEqual(self.changes()[-4:], REMOVALS)
        self.assertNotIn("logs delete-log-stream", self.changes())

    def test_another_model_is_a_failure(self):
        self.assertEqual(self.smoke("--yes", mode="other model"), 1)
        self.assertIn("differs from that of one host", self.out)
        self.assertEqual(self.changes()[-1], "s3 rb")

    def test_without_a_log_the_result_still_counts(self):
        self.assertEqual(self.smoke("--yes", mode="no log"), 0, self.out)
        self.assertIn("no log:", self.out)

    def test_ctrl_c_leaves_no_job_running_whenever_it_comes(self):
        for verb in ("create-training-job", "describe-training-job"):
            with self.subTest(verb):
                self.assertEqual(self.smoke("--yes", mode="job is long", interrupts=[f"sagemaker {verb}"]), 1)
                self.assertIn("interrupted", self.out)
                self.assertEqual(self.changes()[-5:], ["sagemaker stop-training-job", *REMOVALS])
                self.assertIn("the job has ended: Stopped", self.out, "it was waited for")

    def test_ctrl_c_before_the_job_removes_what_there_is(self):
        self.assertEqual(self.smoke("--yes", interrupts=["s3 mb"]), 1)
        self.assertEqual(self.changes(), ["s3 mb", "s3 rb"])

    def test_a_second_ctrl_c_does_not_end_the_cleaning_up(self):
        interrupts = ["sagemaker describe-training-job", "sagemaker stop-training-job", "iam delete-role"]
        self.assertEqual(self.smoke("--yes", mode="job is long", interrupts=interrupts), 1)
        self.assertEqual(self.changes()[-5:], ["sagemaker stop-training-job", *REMOVALS])

    def test_keep_keeps_no_running_job(self):
        self.assertEqual(self.smoke("--yes", "--keep", mode="job is long",
                                    interrupts=["sagemaker describe-training-job"]), 1)
        self.assertEqual(self.changes()[-1], "sagemaker stop-training-job")
        self.assertIn("left in the account: bucket", self.out)

    def test_a_job_whose_start_got_no_answer_is_stopped(self):
        self.assertEqual(self.smoke("--yes", mode="answer is lost"), 1)
        self.assertEqual(self.changes()[-5:], ["sagemaker stop-training-job", *REMOVALS])

    def test_a_child_lives_through_an_interrupt_that_has_to_wait(self):
        with self.assertRaises(KeyboardInterrupt):
            signal.signal(signal.SIGINT, smoke.interrupt)
            with smoke.uninterrupted():
                os.kill(os.getpid(), signal.SIGINT)
                self.assertEqual(smoke.run(["sh", "-c", "kill -INT $$; echo lived"]), "lived\n")
        self.assertEqual(signal.getsignal(signal.SIGTERM), signal.SIG_IGN)

    def test_a_program_that_is_missing_or_fails_is_named(self):
        for words, said in ((["no-such-program"], "'no-such-program' is not installed"),
                            (["sh", "-c", "echo why >&2; exit 3"], "exit status 3: why")):
            with self.assertRaisesRegex(smoke.Failed, said):
                smoke.run(words)


if __name__ == "__main__":
    unittest.main()
