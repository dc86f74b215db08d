#!/usr/bin/env python3
"""Bad input and options: one clear line that names the file or option, exit 2, nothing written, no hang."""
import glob
import json
import os
import re
import shutil
import subprocess

from job import BIN, CONVOY, Job, main

PICTURES = os.path.join(BIN, "test_trainer_pictures")


class Inputs(Job):
    FIRST = ("test_unwritable_output", "test_disk_full_while_the_model_is_written")

    def options(self, **more):
        """Pictures so small that most of the time goes into starting."""
        return super().options(**{"image_size": 8, **more})

    def refused(self, words, *said, ranks=(1, 2), status=2, outputs=False):
        """Each number of ranks says it in one line, ends with the status, and has made no folder."""
        for n in ranks:
            self.assertEqual(self.convoy(n, *words), status, self.err)
            self.assert_one_error(*said)
            if not outputs:
                self.assertEqual([name for name in ("model", "report", "checkpoint") if os.path.exists(self.path(name))], [])

    def at_once(self, option, *said, ranks=(1,)):
        """Wrong options, found before any rank starts."""
        self.refused(self.options() + list(option), *said, ranks=ranks)
        self.assertEqual(len(self.err.splitlines()), 1, self.err)

    def tree(self, **classes):
        """A folder per class with so many pictures each; its name."""
        source = glob.glob(os.path.join(self.train, "*", "*.jpg"))
        for name, count in classes.items():
            os.makedirs(self.path("tree", name))
            for i in range(count):
                shutil.copy(source[i], self.path("tree", name, f"{i}.jpg"))
        return "tree"

    # --- options ---

    def test_unknown_option_with_a_suggestion(self):
        self.at_once(["--epoch=3"], "--epoch", "--epochs", ranks=(1, 2))
        self.at_once(["--frobnicate"], "--frobnicate")

    def test_bad_value(self):
        for option in ("--epochs=x", "--epochs=0", "--epochs=1.5", "--lr=-1", "--lr=nan", "--lr-schedule=round", "--max-run=7",
                       "--checkpoint-every=5x", "--lr-steps=3,2", "--lr-steps=[3", "--lr-steps=3]x", "--image-size=1", "--val-split=1", "--last-batch=", "--micro-batch=17",
                       "--normalize=imagenette", "--normalize=0.5,0.5,0.5", "--normalize=0.5,0.5,0.5/0.5,0.5,0", "--eval-transform=crop",
                       "--normalize=123.7,116.3,103.5/58.4,57.1,57.4", "--decode-threads=0", "--decode-threads=many",
                       "--decode-threads=1025", "--prefetch-bytes=1000", "--prefetch-bytes=half", "--fetch-threads=0"):
            with self.subTest(option):
                self.at_once([option], option.split("=")[0])

    def test_room_for_no_cache(self):
        self.at_once(["--cache-bytes=1000000"], "--cache-bytes", "--cache DIR")

    def test_missing_value(self):
        self.at_once(["--epochs"], "--epochs")

    def test_words_that_are_no_options(self):
        self.at_once(["pictures"], "pictures")

    def test_unknown_model(self):
        self.at_once(["--model=vgg16"], "--model", "vgg16", "resnet18")

    def test_image_size_too_small_for_the_model(self):
        self.refused(self.options(model="resnet18", image_size=16), "16", "resnet18", ranks=(2,))

    def test_no_data_at_all(self):
        self.refused(self.options(data=None), "--data", "--train")

    def test_address_of_no_use(self):
        self.at_once(["--report=s3://bucket/key"], "--report", "s3://bucket/key")
        for option in ("--data", "--train", "--val", "--test", "--checkpoint", "--resume", "--model-dir"):
            self.at_once([f"{option}=s3:///key"], option, "s3:///key", "no bucket")
            self.at_once([f"{option}=http://host/key"], option, "http://host/key")

    def test_val_and_val_split(self):
        self.at_once([f"--val={self.data}/val", "--val-split=0.5"], "--val-split", "--val ")

    def test_hyperparameter_of_the_environment(self):
        self.env["SM_HP_EPOCHS"] = "many"
        self.refused(self.options(epochs=None), "SM_HP_EPOCHS", "many")

    def test_more_ranks_than_micro_batches(self):
        # 16 images over 3 ranks: micro-batches of 7 are three, of 8 two
        self.refused(self.options(), "3 ranks", "--micro-batch 7 ", ranks=(3,))
        self.assertEqual(self.convoy(3, *self.options(micro_batch=7)), 0, self.err)

    def test_more_ranks_than_micro_batches_where_a_checkpoint_might_be(self):
        self.refused(self.options(checkpoint="checkpoint"), "3 ranks", "--micro-batch 7 ", ranks=(3,))

    def test_foreign_mpirun_tells_a_mistake_once(self):
        for option, word in (("--epoch=3", "--epoch"), ("--hosts", "--hosts"), ("--train=nosuch", "nosuch")):
            self.assertEqual(self.wait(self.start(*self.foreign(2, *self.options(), option))), 2)
            errors = [line for line in self.err.splitlines() if "error: " in line]
            self.assertEqual(len(errors), 1, self.err)
            self.assertIn(word, errors[0])

    # --- data ---

    def test_missing_folder(self):
        for option in ("data", "train", "val", "test"):
            self.refused(self.options(**{option: "nosuch"}), "nosuch", ranks=(1, 2) if option == "data" else (1,))

    def test_file_for_a_folder(self):
        open(self.path("file"), "w").close()
        self.refused(self.options(data="file"), "'file'")

    def test_empty_folder(self):
        os.mkdir(self.path("empty"))
        self.refused(self.options(data="empty"), "'empty'")

    def test_empty_class_folder(self):
        self.refused(self.options(data=self.tree(a=3, b=0)), "tree/b")

    def test_pictures_without_class_folders(self):
        self.refused(self.options(data=self.tree(a=3) + "/a"), "tree/a", "class")

    def test_one_class(self):
        self.refused(self.options(data=self.tree(a=20)), "'tree'", "one class")

    def test_class_of_validation_unknown_to_training(self):
        self.refused(self.options(train=self.train, data=None, val=self.tree(zebra=2)), "zebra", "tree")

    def test_val_split_of_a_class_with_one_picture(self):
        self.refused(self.options(data=self.tree(a=20, b=1), val_split=0.2), "--val-split", "'b'")

    def test_last_batch_drop_that_leaves_nothing(self):
        self.refused(self.options(global_batch=64, last_batch="drop"), "--last-batch")

    def spoiled(self, *places, what="<html>404</html>"):
        """Copies of the pictures, of which these are no pictures; and the names of these."""
        name = self.copy_of_train()
        pictures = [self.pictures_of(name)[at] for at in places]
        for picture in pictures:
            with open(picture, "w") as file:
                file.write(what)
        return name, [os.path.relpath(picture, self.folder) for picture in pictures]

    def left_out(self):
        """The warning of pictures that were left out: how often, and the first."""
        return re.findall(r"warning: (\d+) times a picture could not be decoded and was left out; the first is '([^']*)': neither",
                          self.err)

    def test_empty_file(self):
        name, [picture] = self.spoiled(3, what="")
        for ranks in (1, 2):
            self.assertEqual(self.convoy(ranks, *self.options(data=name)), 0, self.err)
            self.assertIn(f"warning: 1 pictures below '{name}' are empty and are left out; the first is '{picture.split('/', 1)[1]}'",
                          self.err)
            self.assertEqual(self.events("epoch")[-1]["images"], 31)
        shutil.rmtree(self.path("model"))
        shutil.rmtree(self.path("report"))
        self.refused(self.options(data=name, bad_images="stop"), picture, "0 bytes")

    def test_file_that_is_no_image_is_left_out_and_reported(self):
        name, [picture] = self.spoiled(3)
        for ranks in (1, 2):
            self.assertEqual(self.convoy(ranks, *self.options(data=name, epochs=2, val=name)), 0, self.err)
            self.assertEqual(self.left_out(), [("4", picture)], self.err)  # met in 2 trainings and 2 validations
            self.assertEqual(self.events("end")[-1]["left_out"], 4)
            self.assertEqual([e["images"] for e in self.events("epoch", "eval")[-4:]], [31] * 4)

    def test_pictures_left_out_leave_the_same_bits_on_any_number_of_ranks(self):
        # micro-batches of 1 and 2: some have no picture at all, and so has the step of the last picture, alone in its epoch
        name, _ = self.spoiled(*range(3, 30, 4))
        subprocess.run([CONVOY, "pack", self.path(name), self.path("shards")], check=True)
        for batch, micro, ranks in ((4, 1, (1, 2, 3)), (6, 2, (1, 2, 3)), (1, 1, (1,))):
            seen = set()
            for n, data in [(n, name) for n in ranks] + [(ranks[-1], "shards")]:
                self.assertEqual(self.convoy(n, *self.options(data=data, epochs=2, global_batch=batch, micro_batch=micro)), 0, self.err)
                self.assertEqual([count for count, _ in self.left_out()], ["14"], self.err)
                self.assertEqual([e["images"] for e in self.events("epoch")[-2:]], [25, 25])
                seen.add((self.sha256(), *(e["loss"] for e in self.events("epoch")[-2:])))
            self.assertEqual(len(seen), 1, (batch, micro))

    def test_pictures_left_out_leave_the_same_bits_after_a_stop(self):
        name, _ = self.spoiled(*range(3, 30, 4))
        more = {"data": name, "global_batch": 4, "micro_batch": 1, "epochs": 2}
        self.assertEqual(self.convoy(1, *self.options(**more)), 0, self.err)
        whole = self.sha256()
        more["checkpoint"] = "checkpoint"
        self.assertEqual(self.convoy(2, *self.options(**more, max_steps=5)), 0, self.err)
        self.assertEqual(self.convoy(1, *self.options(**more)), 0, self.err)
        self.assertIn("resuming at step 5 ", self.err)
        self.assertEqual(self.sha256(), whole)

    def test_file_that_is_no_image_ends_the_run_where_it_should(self):
        name, [picture] = self.spoiled(3)
        self.refused(self.options(data=name, bad_images="stop"), picture, "neither a JPEG nor a PNG", outputs=True)

    def test_rank_that_met_it_is_named(self):
        name, [picture] = self.spoiled(6)  # which this seed gives to rank 1
        self.assertEqual(self.convoy(2, *self.options(data=name, bad_images="stop")), 2, self.err)
        self.assertRegex(self.err, f"(?m)^\\[0/2 \\S+\\] error: rank 1 on \\S+: '{picture}': neither")

    def test_all_files_are_no_images(self):  # every rank meets one at the same time
        name, pictures = self.spoiled(*range(32))
        self.refused(self.options(data=name, bad_images="stop"), name, "neither a JPEG nor a PNG", ranks=(1, 2, 2), outputs=True)
        self.refused(self.options(data=name), f"not one picture in '{name}' can be decoded; the first: '{name}/", outputs=True)

    def test_file_that_is_no_image_in_validation(self):
        val = self.path("val")
        shutil.copytree(os.path.join(self.data, "val"), val)
        for picture in self.pictures_of("val"):
            with open(picture, "w") as file:
                file.write("<html>404</html>")
        options = {"data": None, "train": self.train, "val": "val"}
        self.refused(self.options(**options, bad_images="stop"), "'val/", "neither a JPEG nor a PNG", outputs=True)
        self.refused(self.options(**options), "not one picture in 'val'", "'val/", "neither a JPEG nor a PNG", outputs=True)

    def test_files_that_are_no_pictures_by_their_name_are_named_once(self):
        name = self.copy_of_train()
        for file in (".DS_Store", "Thumbs.db", "notes.txt"):
            with open(self.path(name, sorted(os.listdir(self.path(name)))[0], file), "w") as out:
                out.write("x")
        self.assertEqual(self.convoy(2, *self.options(data=name)), 0, self.err)
        self.assertEqual(len(re.findall("warning: 2 files below 'pictures' .* the first is '[^']*/Thumbs.db'", self.err)), 1, self.err)
        self.assertEqual(self.events("epoch")[-1]["images"], 32)

    def test_damaged_png(self):
        name = self.copy_of_train()
        subprocess.run([PICTURES, self.folder], check=True)
        with open(self.path("png-0.png"), "rb") as file:
            png = file.read()
        with open(self.path(name, os.listdir(self.path(name))[0], "half.png"), "wb") as file:
            file.write(png[:len(png) // 2])
        self.assertIn(self.convoy(1, *self.options(data=name)), (0, 2))
        self.assertIn("half.png", self.err)

    def pictures_of_kind(self, *kinds):
        name = self.copy_of_train()
        first = sorted(os.listdir(self.path(name)))[0]
        subprocess.run([PICTURES, self.folder], check=True)
        for kind in kinds:
            shutil.copy(self.path(kind), self.path(name, first, kind))
        return name

    def test_truncated_jpeg_is_decoded_counted_and_reported(self):
        name = self.pictures_of_kind("truncated.jpg")
        for ranks in (1, 2):
            self.assertEqual(self.convoy(ranks, *self.options(data=name, epochs=2, val=name)), 0, self.err)
            warnings = [line for line in self.err.splitlines() if "truncated.jpg" in line]
            self.assertEqual(len(warnings), 1, self.err)  # met in 2 trainings and 2 validations
            self.assertRegex(warnings[0], r"warning: 4 times a picture was cut short")
            self.assertEqual(self.events("end")[-1]["truncated"], 4)
            self.assertEqual(self.events("epoch")[-1]["images"], 33)

    def converted(self, *kinds):
        name = self.pictures_of_kind(*kinds)
        self.assertEqual(self.convoy(1, *self.options(data=name)), 0, self.err)
        self.assertEqual(self.events("epoch")[-1]["images"], 32 + len(kinds))
        self.assertNotIn("cut short", self.err)

    def test_cmyk_jpeg_is_converted(self):
        self.converted("cmyk.jpg", "adobe.jpg")

    def test_ycck_jpeg_is_converted(self):
        self.converted("ycck.jpg")

    def test_greyscale_jpeg_is_converted(self):
        self.converted("grey.jpg")

    def test_png_among_jpegs_is_decoded(self):
        self.converted("png-0.png", "png-1.png", "png-2.png", "png-3.png", "png-4.png")

    def test_png_named_jpg_is_decoded(self):
        name = self.pictures_of_kind("png-0.png")
        for picture in self.pictures_of(name):
            if picture.endswith(".png"):
                os.rename(picture, picture[:-4] + ".jpg")
        self.assertEqual(self.convoy(1, *self.options(data=name)), 0, self.err)

    # --- shards ---

    def shards(self):
        subprocess.run([CONVOY, "pack", self.train, self.path("shards"), "--shard-bytes", "10000"], check=True)
        tars = sorted(glob.glob(self.path("shards", "*.tar")))
        self.assertGreater(len(tars), 1)
        return tars

    def test_shard_cut_short(self):
        tar = self.shards()[1]
        os.truncate(tar, os.path.getsize(tar) // 2)
        self.refused(self.options(data="shards"), os.path.relpath(tar, self.folder))

    def test_shard_missing(self):
        tar = self.shards()[1]
        os.remove(tar)
        self.refused(self.options(data="shards"), os.path.relpath(tar, self.folder))

    def test_index_that_does_not_match_its_tar(self):
        one, two = (tar[:-4] + ".idx" for tar in self.shards()[:2])
        shutil.copy(two, one)
        self.refused(self.options(data="shards"), os.path.relpath(one, self.folder)[:-4])

    def test_tar_whose_bytes_changed_behind_its_index(self):
        for tar in self.shards():  # the same length, but another bit in every picture
            with open(tar, "r+b") as file:
                data = bytearray(file.read())
                for at in range(600, len(data), 256):
                    data[at] ^= 1
                file.seek(0)
                file.write(data)
        self.refused(self.options(data="shards"), "shards/shard-", "match", outputs=True)

    def test_tars_without_an_index(self):
        self.shards()
        os.remove(self.path("shards", "index.json"))
        self.refused(self.options(data="shards"), "'shards'", "convoy pack")

    def test_index_that_is_no_json(self):
        self.shards()
        with open(self.path("shards", "index.json"), "w") as file:
            file.write('{"format":')
        self.refused(self.options(data="shards"), "shards/index.json")

    # --- outputs ---

    def test_unwritable_output(self):
        open(self.path("file"), "w").close()
        for option in ("--model-dir", "--report", "--checkpoint"):
            for place in ("file", "file/below", "/proc/nosuch"):
                self.refused(self.options() + [f"{option}={place}"], option, place.split("/")[-1 if place[0] == "/" else 0],
                             ranks=(1, 2) if place == "file" else (1,),
                             outputs=True)
        self.assertEqual(glob.glob(self.path("*", "*")), [])  # no file in any of the others

    def test_disk_full_while_saving_is_warned_of_and_training_goes_on(self):
        # a checkpoint holds weights and momentum, 14 MB; the model 7 MB, and MPI's own files 4 MB
        for ranks in (1, 2):
            self.assertEqual(self.convoy(ranks, *self.options(model="resnet110", checkpoint="checkpoint",
                                                              checkpoint_every=1),
                                         file_bytes_max=10000000), 0, self.err)
            warnings = [line for line in self.err.splitlines() if "warning: cannot save a checkpoint" in line]
            self.assertGreaterEqual(len(warnings), 1)
            self.assertIn("checkpoint/step-", warnings[0])
            self.assertIn("training goes on", warnings[0])
            self.assertEqual(os.listdir(self.path("checkpoint")), [])  # nothing half-written
            self.assertTrue(os.path.exists(self.path("model", "model.safetensors")))
            self.sha256()

    def test_disk_full_for_what_is_printed(self):  # one rank: of several, mpirun writes the lines
        with open("/dev/full", "w") as full:
            done = subprocess.run([os.path.join(os.environ["CONVOY_BIN"], "convoy"), "train", *self.options()],
                                  cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("cannot write the results to stdout", done.stderr)

    def test_disk_full_while_the_model_is_written(self):
        for ranks in (1, 2):
            self.assertEqual(self.convoy(ranks, *self.options(model="resnet110"), file_bytes_max=6000000), 1, self.err)
            self.assert_one_error("model/model.safetensors")
            self.assertNotIn("model.safetensors", os.listdir(self.path("model")))

    # --- checkpoints ---

    def trained(self, **more):
        """One run with checkpoints of steps 1 and 2; the newest's path."""
        options = {"checkpoint": "checkpoint", "checkpoint_every": 1, **more}
        self.assertEqual(self.convoy(1, *self.options(**options)), 0, self.err)
        self.assertEqual(self.checkpoints(), [1, 2])
        return sorted(glob.glob(self.path("checkpoint", "*")))[-1]

    def again(self, **more):
        return self.options(**{"checkpoint": "checkpoint", "epochs": 2, **more})

    def test_resume_from_a_missing_path(self):
        self.refused(self.options(resume="nosuch"), "--resume", "nosuch")
        os.mkdir(self.path("empty"))
        self.refused(self.options(resume="empty"), "--resume", "empty")

    def test_checkpoint_of_another_model(self):
        self.trained()
        self.refused(self.again(model="resnet32"), "--model", "resnet32", "resnet20", outputs=True)
        self.assertEqual(self.checkpoints(), [1, 2])

    def test_another_global_batch_or_seed_on_resume(self):
        self.trained()
        self.refused(self.again(global_batch=32), "--global-batch", "32", "16", outputs=True, ranks=(2,))
        self.refused(self.again(seed=7), "--seed", "7", "1", outputs=True, ranks=(1,))

    def test_another_normalisation_or_evaluation_on_resume(self):
        self.trained(normalize="0.5,0.5,0.5/0.25,0.25,0.25", eval_transform="center")
        self.refused(self.again(normalize="none"), "--normalize", "none", "0.25,0.25", outputs=True, ranks=(1,))
        self.refused(self.again(eval_transform="resize"), "--eval-transform", "center", outputs=True, ranks=(1,))
        self.assertEqual(self.convoy(2, *self.again()), 0, self.err)  # both come from the checkpoint
        with open(self.path("model", "config.json")) as file:
            config = json.load(file)
        self.assertEqual(config["normalize"], {"mean": [0.5] * 3, "std": [0.25] * 3})
        self.assertEqual((config["eval_transform"], config["image_size"]), ("center", 8))

    def test_normalisation_changes_what_is_trained_and_what_is_evaluated(self):
        seen = {}
        for name, more in {"default": {}, "named": {"normalize": "imagenet", "eval_transform": "resize"},
                           "none": {"normalize": "none"}, "center": {"eval_transform": "center"}}.items():
            self.assertEqual(self.convoy(1, *self.options(image_size=16, **more)), 0, self.err)
            seen[name] = (self.sha256(), self.events("eval")[-1]["loss"])
        self.assertEqual(seen["named"], seen["default"])
        self.assertNotEqual(seen["none"][0], seen["default"][0])
        self.assertEqual(seen["center"][0], seen["default"][0])  # trained alike, ...
        self.assertNotEqual(seen["center"][1], seen["default"][1])  # ... evaluated otherwise

    def test_views_of_each_picture(self):
        seen = {}
        for views in (None, 1, 3, 4):
            self.assertEqual(self.convoy(1, *self.options(image_size=32, epochs=3, augment_views=views)), 0, self.err)
            seen[views] = self.sha256()
        self.assertEqual(seen[3], seen[None])  # three epochs see three views either way
        self.assertEqual(seen[4], seen[None])
        self.assertNotEqual(seen[1], seen[None])
        for folder in ("model", "report"):
            shutil.rmtree(self.path(folder))
        self.at_once(["--augment=none", "--augment-views=2"], "--augment-views", "--augment none")
        self.trained(augment_views=2)
        self.refused(self.again(augment_views=3), "--augment-views", "3", "2", outputs=True, ranks=(1,))

    def test_other_pictures_on_resume(self):
        self.trained()
        self.refused(self.again(data=self.tree(a=20, b=20)), "'tree'", "checkpoint/step-", outputs=True)

    def test_model_file_for_a_checkpoint(self):
        self.trained()
        self.refused(self.options(resume="model/model.safetensors"), "model/model.safetensors", outputs=True)

    def test_damaged_newest_checkpoint_gives_way_to_the_one_before(self):
        newest = self.trained()
        os.truncate(newest, os.path.getsize(newest) - 1)
        self.assertEqual(self.convoy(2, *self.options(checkpoint="checkpoint")), 0, self.err)
        warnings = [line for line in self.err.splitlines() if "passing over" in line]
        self.assertEqual(len(warnings), 1, self.err)
        self.assertIn(os.path.relpath(newest, self.folder), warnings[0])
        self.assertIn("resuming at step 1 ", self.err)

    def test_a_run_begun_anew_supersedes_the_longer_one_in_its_folder(self):
        self.trained(keep=9)
        first = sorted(glob.glob(self.path("checkpoint", "*")))[0]
        for start in ("never", os.path.relpath(first, self.folder)):
            self.assertEqual(self.convoy(1, *self.options(checkpoint="checkpoint", checkpoint_every=1, resume=start, keep=9,
                                                          max_steps=1 if start == "never" else 2)), 0, self.err)
            of = self.events("generation")[-1]
            self.assertEqual(self.convoy(1, *self.again(checkpoint_every=1, keep=9)), 0, self.err)
            self.assertEqual(self.events("generation")[-1]["generation"], of["generation"] + 1)
            self.assertIn("-g%d.safetensors'" % of["generation"], self.err)  # what it resumed from

    def damage_all(self):
        for path in glob.glob(self.path("checkpoint", "*")):
            with open(path, "r+b") as file:
                file.seek(-5, os.SEEK_END)
                file.write(b"xxxxx")

    def test_all_checkpoints_damaged(self):  # each is named, and the run begins anew
        self.trained()
        self.damage_all()
        self.assertEqual(self.convoy(2, *self.options(checkpoint="checkpoint")), 0, self.err)
        warnings = [line for line in self.err.splitlines() if "warning: passing over a checkpoint" in line]
        self.assertEqual(len(warnings), 2, self.err)
        self.assertNotIn("resuming", self.err)
        self.assertEqual(self.events("generation")[-1]["step"], 0)

    def test_damaged_checkpoint_by_its_path(self):
        newest = self.trained()
        self.damage_all()
        self.refused(self.again(resume=newest), "--resume", newest, "damaged", outputs=True)

    # --- numbers ---

    def test_loss_that_is_not_finite_ends_the_run_and_is_not_kept(self):
        wild = {"lr": 1e6, "weight_decay": 1000, "warmup_epochs": 0, "lr_schedule": "constant", "epochs": 12,
                "checkpoint": "checkpoint", "checkpoint_every": 1, "keep": 100}
        for ranks in (1, 2):
            shutil.rmtree(self.path("checkpoint"), ignore_errors=True)
            self.assertEqual(self.convoy(ranks, *self.options(**wild)), 1, self.err)
            self.assert_one_error("finite", "step ", "--lr")
            for event in self.events("step"):
                self.assertLess(abs(event["loss"]), float("inf"))
            self.assertFalse(os.path.exists(self.path("model")) and os.listdir(self.path("model")))
            self.assertGreater(len(self.checkpoints()), 0)

    def test_weights_that_are_not_finite_are_not_written_as_a_model(self):
        wild = {"lr": 1e6, "weight_decay": 1000, "warmup_epochs": 0, "lr_schedule": "constant", "epochs": 12}
        self.assertEqual(self.convoy(1, *self.options(**wild)), 1, self.err)
        last = self.events("step")[-1]["step"]  # after it a loss was not finite: its own weights may be the cause
        for steps in range(last - 1, last + 1):
            shutil.rmtree(self.path("model"), ignore_errors=True)
            status = self.convoy(1, *self.options(**wild, max_steps=steps))
            if status != 0:
                self.assertEqual(status, 1)
                self.assert_one_error("finite", f"step {steps} ", "--lr")
                self.assertEqual(os.listdir(self.path("model")), [])
        self.assertEqual(status, 1, "the last weights are finite")


if __name__ == "__main__":
    main(Inputs)
