#!/usr/bin/env python3
"""tests/aws/smoke with a stand-in for aws and docker: what it asks before it spends, in which order, and what it leaves."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SMOKE = os.path.join(HERE, "smoke")
# Calls that change nothing in an account.
HARMLESS = ("sts get-caller-identity", "configure export-credentials", "sagemaker describe-training-job",
            "logs describe-log-streams", "logs get-log-events", "ecr get-authorization-token", "s3 cp")


class Smoke(unittest.TestCase):
    def setUp(self):
        self.fake = tempfile.mkdtemp(prefix="convoy-fake-aws-")
        self.addCleanup(shutil.rmtree, self.fake)
        for name in ("aws", "docker"):
            os.symlink(os.path.join(HERE, "fake-aws"), os.path.join(self.fake, name))
        self.temporary = os.path.join(self.fake, "tmp")
        os.mkdir(self.temporary)

    def smoke(self, *words, mode=""):
        env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        env.update(PATH=f"{self.fake}:{os.path.dirname(sys.executable)}:/usr/bin:/bin", FAKE=self.fake, FAKE_MODE=mode,
                   CONVOY_SMOKE_POLL_S="0", TMPDIR=self.temporary)
        done = subprocess.run([sys.executable, SMOKE, *words], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=100)
        self.out = done.stdout
        return done.returncode

    def calls(self, program="aws"):
        try:
            with open(os.path.join(self.fake, "calls")) as file:
                lines = [json.loads(line) for line in file]
        except FileNotFoundError:
            lines = []
        return [words[1:] for words in lines if words[0] == program]

    def verbs(self, program="aws"):
        return [" ".join(words[:2]) for words in self.calls(program)]

    def changes(self):
        return [verb for verb in self.verbs() if verb not in HARMLESS]

    def test_without_yes_it_says_the_price_and_changes_nothing(self):
        self.assertEqual(self.smoke(), 2)
        self.assertEqual(self.verbs(), ["sts get-caller-identity"])
        self.assertEqual(self.calls("docker"), [])
        self.assertIn("price: at most 2 x ml.c5.xlarge x 15 min x 0.204 USD/h = 0.10 USD (on demand, not spot)", self.out)
        self.assertIn("account 123456789012", self.out)
        self.assertIn("--yes", self.out)

    def test_the_price_follows_instance_minutes_and_price(self):
        self.smoke("--instance=ml.c5.24xlarge", "--price=4.896", "--minutes=30", "--spot")
        self.assertIn("2 x ml.c5.24xlarge x 30 min x 4.896 USD/h = 4.90 USD (list price; spot costs less)", self.out)

    def test_an_instance_without_a_known_price_is_refused(self):
        self.assertEqual(self.smoke("--instance=ml.p4d.24xlarge", "--yes"), 2)
        self.assertIn("no price is known for 'ml.p4d.24xlarge'", self.out)
        self.assertEqual(self.calls(), [])

    def test_without_an_account_it_ends_in_one_line_that_says_what_to_do(self):
        self.assertEqual(self.smoke("--yes", mode="no-account"), 1)
        self.assertIn("no AWS account", self.out)
        self.assertIn("aws configure", self.out)
        self.assertEqual(self.changes(), [])

    def test_it_trains_here_then_makes_runs_compares_and_removes(self):
        self.assertEqual(self.smoke("--yes"), 0, self.out)
        self.assertEqual(self.changes(), [
            "s3 mb", "iam create-role", "iam put-role-policy", "ecr create-repository", "sagemaker create-training-job",
            "logs delete-log-stream", "logs delete-log-stream", "ecr delete-repository", "iam delete-role-policy",
            "iam delete-role", "s3 rb"])
        programs = [next(word for word in ("synth", "train", "pack", "ls") if word in words)
                    for words in self.calls("docker") if words[0] == "run"]
        self.assertEqual(programs, ["synth", "train", "pack", "ls"])
        self.assertIn("the last line of algo-1", self.out)
        self.assertIn("PASS", self.out)
        self.assertIn("ab" * 32, self.out)
        self.assertEqual(os.listdir(self.temporary), [], "nothing is left on this machine")

    def test_the_request_is_a_job_of_two_instances_that_ends_by_itself(self):
        self.smoke("--yes", "--minutes=7", "--spot")
        with open(os.path.join(self.fake, "request")) as file:
            request = json.load(file)
        self.assertEqual(request["ResourceConfig"]["InstanceCount"], 2)
        self.assertEqual(request["StoppingCondition"], {"MaxRuntimeInSeconds": 420, "MaxWaitTimeInSeconds": 840})
        self.assertTrue(request["EnableManagedSpotTraining"])
        self.assertRegex(request["Environment"]["CONVOY_JOB_KEY"], "^[0-9a-f]{64}$")
        self.assertRegex(request["Environment"]["SM_CHANNEL_TRAINING"], "^s3://convoy-smoke-[0-9a-f]{8}/shards/train$")
        for name in ("111122223333", "convoy-example", "eu-west-1"):
            self.assertNotIn(name, json.dumps(request), "no name of the example is left")

    def test_keys_are_on_no_command_line(self):
        self.smoke("--yes")
        self.assertNotIn("not-a-secret", json.dumps(self.calls() + self.calls("docker")) + self.out)
        self.assertNotIn("password-of-the-registry", json.dumps(self.calls("docker")) + self.out)

    def test_a_role_that_is_not_known_yet_is_tried_again(self):
        self.assertEqual(self.smoke("--yes", mode="role-is-new"), 0, self.out)
        self.assertEqual(self.verbs().count("sagemaker create-training-job"), 3)

    def test_a_role_that_is_given_is_neither_made_nor_removed(self):
        self.smoke("--yes", "--role=arn:aws:iam::123456789012:role/mine")
        self.assertEqual([verb for verb in self.changes() if verb.startswith("iam ")], [])

    def test_a_job_that_fails_is_said_and_everything_but_its_log_is_removed(self):
        self.assertEqual(self.smoke("--yes", mode="job-fails"), 1)
        self.assertIn("AlgorithmError: exit code 3", self.out)
        self.assertEqual(self.changes()[-4:],
                         ["ecr delete-repository", "iam delete-role-policy", "iam delete-role", "s3 rb"])
        self.assertNotIn("logs delete-log-stream", self.changes())

    def test_another_model_is_a_failure(self):
        self.assertEqual(self.smoke("--yes", mode="other-model"), 1)
        self.assertIn("differs from that of one host", self.out)
        self.assertEqual(self.changes()[-1], "s3 rb")


if __name__ == "__main__":
    unittest.main()
