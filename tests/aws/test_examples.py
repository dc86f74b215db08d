#!/usr/bin/env python3
"""The container's examples: what can be known of them without an account."""
import ast
import glob
import importlib
import json
import os
import re
import subprocess
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
CONTAINER = os.path.normpath(os.path.join(HERE, "..", "..", "launcher", "container"))
EXAMPLES = os.path.join(CONTAINER, "examples")
CONVOY = os.path.join(os.environ["CONVOY_BIN"], "convoy")
# Actions that AWS knows for no single resource.
FOR_ALL_RESOURCES = {"LogInToTheRegistry", "SendTheMetrics", "ListTrials", "LookAround"}
BUILT_IN = {"use_pretrained_model", "train_only_on_top_layer", "learning_rate"}  # names of the built-in algorithms
SOURCES = os.path.join(HERE, "..", "..")


def read(*names):
    with open(os.path.join(*names)) as file:
        return file.read()


def no_key_twice(pairs):
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError(f"a key is there twice: {[name for name, _ in pairs]}")
    return dict(pairs)


def read_json(*names):
    return json.loads(read(EXAMPLES, *names), object_pairs_hook=no_key_twice)


def words_behind(text, word):
    """The words of the shell command whose line has `word`, up to its end, without what is indented or continued."""
    command = re.search(re.escape(word) + r"((?:[^\n\\]|\\\n)*?)(?:&&|\n)", text)[1]
    return sorted(command.replace("\\\n", " ").split())


def request_shape():
    """CreateTrainingJob's, as the aws CLI knows it; None without one."""
    for name in ("botocore.session", "awscli.botocore.session"):
        try:
            session = importlib.import_module(name).get_session()
        except ImportError:
            continue
        return session.get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    return None


def wrong_with(value, shape, path):
    """What the service would refuse: names, kinds, lengths, ranges, patterns, words of a list. The CLI checks less."""
    wanted = {"structure": dict, "map": dict, "list": list, "string": str, "integer": int, "boolean": bool}[shape.type_name]
    if type(value) is not wanted:
        return [f"{path}: {value!r} is no {shape.type_name}"]
    known, wrong = shape.metadata, []
    if shape.type_name == "structure":
        wrong += [f"{path}: lacks {name}" for name in shape.required_members if name not in value]
        wrong += [f"{path}: knows no {name}" for name in value if name not in shape.members]
        for name in value.keys() & shape.members.keys():
            wrong += wrong_with(value[name], shape.members[name], f"{path}.{name}")
        return wrong
    for name, item in value.items() if wanted is dict else enumerate(value) if wanted is list else ():
        wrong += wrong_with(item, shape.value if wanted is dict else shape.member, f"{path}[{name}]")
        wrong += wrong_with(name, shape.key, f"{path}'s key") if wanted is dict else []
    size = value if wanted in (int, bool) else len(value)
    if not known.get("min", size) <= size <= known.get("max", size):
        wrong.append(f"{path}: {value!r} is not within {known.get('min')} .. {known.get('max')}")
    if "enum" in known and value not in known["enum"]:
        wrong.append(f"{path}: {value!r} is none of {known['enum']}")
    if "pattern" in known and not re.fullmatch(known["pattern"], value):
        wrong.append(f"{path}: {value!r} is not like {known['pattern']}")
    return wrong


class Request(unittest.TestCase):
    EXAMPLE, CHANNELS = "create-training-job.json", ["training", "validation"]

    def setUp(self):
        self.request = read_json(self.EXAMPLE)

    def test_it_is_a_spot_job_of_two_instances_with_checkpoints(self):
        self.assertEqual(self.request["ResourceConfig"]["InstanceCount"], 2)
        self.assertEqual(self.request["ResourceConfig"]["InstanceType"], "ml.c5.2xlarge")
        self.assertTrue(self.request["EnableManagedSpotTraining"])
        stop = self.request["StoppingCondition"]
        self.assertGreaterEqual(stop["MaxWaitTimeInSeconds"], stop["MaxRuntimeInSeconds"])
        # Without the slash the platform also fetches the files of ".../pictures-10" for ".../pictures-1".
        self.assertRegex(self.request["CheckpointConfig"]["S3Uri"], "^s3://.*/$")
        self.assertIn("CONVOY_JOB_KEY", self.request["Environment"])
        self.assertEqual([channel["ChannelName"] for channel in self.request["InputDataConfig"]],
                         self.CHANNELS)

    def test_it_is_a_request_that_the_interface_takes(self):
        shape = request_shape()
        if shape is None:
            self.skipTest("neither botocore nor Debian's awscli is installed")
        self.assertEqual(wrong_with(self.request, shape, "request"), [])
        self.assertNotEqual(wrong_with({**self.request, "RetryStrategy": {"MaximumRetryAttempts": 31}}, shape, "request"), [])

    def test_the_network_is_not_isolated(self):
        # With isolation no host could read shards from S3, commit checkpoints there, or get its role's keys.
        self.assertFalse(self.request["EnableNetworkIsolation"])
        self.assertNotIn("isolation", read(EXAMPLES, "sagemaker_sdk.py"))

    def test_hyperparameters_are_texts_that_name_options(self):
        known = subprocess.run([CONVOY, "train", "--help"], stdout=subprocess.PIPE, check=True, text=True).stdout
        for name, value in self.request["HyperParameters"].items():
            self.assertIsInstance(value, str, name)
            if name not in BUILT_IN:
                self.assertRegex(known, rf"--{name}\b")

    def test_its_metrics_are_of_the_list_that_matches_what_a_training_prints(self):
        # tests/trainer/test_sagemaker.py holds that list against a real training.
        every = json.loads(read(CONTAINER, "metric-definitions.json"))
        definitions = self.request["AlgorithmSpecification"]["MetricDefinitions"]
        self.assertIn("validation:accuracy", [definition["Name"] for definition in definitions])
        for definition in definitions:
            self.assertIn(definition, every)

    def test_the_python_example_defines_the_same_metrics(self):
        tree = ast.parse(read(EXAMPLES, "sagemaker_sdk.py"))
        metrics = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "METRICS")
        self.assertEqual(ast.literal_eval(metrics), self.request["AlgorithmSpecification"]["MetricDefinitions"])


class Photographs(Request):
    EXAMPLE, CHANNELS = "photographs.json", ["training", "model"]


class Policies(unittest.TestCase):
    def test_policies_allow_no_more_than_named_actions_on_named_things(self):
        files = sorted(glob.glob(os.path.join(EXAMPLES, "iam", "*.json")))
        self.assertEqual(len(files), 7)
        for path in files:
            policy = json.loads(read(path), object_pairs_hook=no_key_twice)
            self.assertEqual(policy["Version"], "2012-10-17", path)
            for statement in policy["Statement"]:
                actions = statement["Action"]
                for action in [actions] if isinstance(actions, str) else actions:
                    self.assertRegex(action, r"^[a-z0-9]+:[A-Za-z]+$", path)
                if "-trust" in path:
                    self.assertIn("Service", statement["Principal"])
                elif statement["Resource"] == "*":
                    self.assertIn(statement["Sid"], FOR_ALL_RESOURCES, path)

    def test_a_role_may_do_what_the_programs_ask_of_s3_and_no_more(self):
        text = "".join(read(path) for folder in ("s3io", "launcher", "trainer")
                       for path in glob.glob(os.path.join(SOURCES, folder, "**", "*.c"), recursive=True))
        asked = set(re.findall(r'"(s3:[A-Z][A-Za-z]+)"', text))
        self.assertGreaterEqual(asked, {"s3:GetObject", "s3:PutObject", "s3:ListBucket"})
        for name in ("training-role.json", "ec2-role.json", "person.json"):
            given = [statement["Action"] for statement in read_json("iam", name)["Statement"]]
            given = {action for actions in given for action in ([actions] if isinstance(actions, str) else actions)}
            self.assertEqual({action for action in given if action.startswith("s3:")}, asked, name)

    def test_a_missing_key_is_not_taken_for_a_forbidden_one(self):
        # S3 answers 404 only to those who may list the bucket; a condition on the prefix does not hold for a GET.
        for name in ("training-role.json", "ec2-role.json", "person.json"):
            (listing,) = [statement for statement in read_json("iam", name)["Statement"]
                          if statement["Action"] == "s3:ListBucket"]
            self.assertNotIn("Condition", listing, name)

    def test_a_job_may_write_below_its_own_prefixes_only(self):
        for name in ("training-role.json", "ec2-role.json"):
            for statement in read_json("iam", name)["Statement"]:
                if "s3:PutObject" in statement["Action"]:
                    resources = statement["Resource"]
                    for resource in [resources] if isinstance(resources, str) else resources:
                        self.assertRegex(resource, r"^arn:aws:s3:::convoy-example/(checkpoints|output)/\*$")

    def test_parts_that_nobody_will_complete_are_aborted_but_not_while_they_may_be_gone_on_with(self):
        (rule,) = read_json("lifecycle.json")["Rules"]
        kept = re.search(r"S3_UPLOAD_KEEP_S +\(([0-9.]+) \* 3600\)", read(SOURCES, "s3io", "upload_record.h"))[1]
        self.assertEqual((rule["Status"], rule["Filter"]), ("Enabled", {"Prefix": ""}))
        self.assertGreater(rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] * 24, float(kept))


class Image(unittest.TestCase):
    def setUp(self):
        self.dockerfile = read(CONTAINER, "Dockerfile")
        self.last_stage = self.dockerfile[self.dockerfile.rindex("\nFROM "):]

    def test_the_entry_point_is_convoy_itself(self):
        self.assertIn('\nENTRYPOINT ["/usr/local/bin/convoy"]\nCMD ["train"]\n', self.last_stage)
        instructions = [line.split()[0] for line in self.dockerfile.splitlines() if re.match("[A-Z]+ ", line)]
        self.assertNotIn("HEALTHCHECK", instructions)
        self.assertNotIn("USER", instructions)

    def test_the_image_holds_no_compiler_and_no_sshd(self):
        packages = words_behind(self.last_stage, "--no-install-recommends")
        self.assertIn("libopenmpi3", packages)
        for package in packages:
            self.assertNotRegex(package, "-dev$|^gcc|^cmake|^openssh-server$|^tini$|^python")

    def test_a_host_gets_the_same_packages_as_the_image(self):
        host = words_behind(read(EXAMPLES, "ec2-user-data.sh"), "--no-install-recommends")
        self.assertEqual([word for word in host if word not in ("awscli", "docker.io", "openssh-client")],
                         words_behind(self.last_stage, "--no-install-recommends"))

    def test_scripts_are_shell(self):
        for path in (os.path.join(CONTAINER, "build"), os.path.join(EXAMPLES, "ec2-user-data.sh")):
            subprocess.run(["bash", "-n", path], check=True)


if __name__ == "__main__":
    unittest.main()
