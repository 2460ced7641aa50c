import hashlib
import logging
import tempfile

from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import TestCase, override_settings

from django_gateway.testing import GatewayTestMixin
from rooms.models import Post, Room

LARGE = bytes(range(256)) * 20_000  # 5 MB: on the disk, for the gateway as for Django


class RoomsTest(GatewayTestMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.ann, cls.bob = (User.objects.create_user(name) for name in ("ann", "bob"))
        cls.hall = Room.objects.create(slug="hall", title="Hall")
        cls.attic = Room.objects.create(slug="attic", title="Attic", private=True)
        cls.attic.members.add(cls.ann)

    def socket(self, user, room="hall"):
        return self.client.websocket(f"/rooms/{room}/", user=user)

    def expect(self, ws, kind):
        message = ws.expect_json()
        self.assertEqual(message["kind"], kind)
        return message

    def committed(self):
        """What is sent with the transaction is not sent in a TestCase, but here."""
        return self.captureOnCommitCallbacks(execute=True)


class TalkTest(RoomsTest):
    def test_strangers_are_refused_with_a_status(self):
        for user, room, status in (
            (None, "hall", 401),
            (self.ann, "cellar", 404),
            (self.bob, "attic", 403),
            (self.ann, "attic", None),
        ):
            with self.subTest(room=room, user=user), self.socket(user, room) as ws:
                self.assertEqual(ws.rejected, status)

    def test_who_comes_hears_what_was_said_and_who_is_there(self):
        Post.objects.create(room=self.hall, author=self.bob, text="before")
        with self.socket(self.ann) as ws:
            welcome = self.expect(ws, "welcome")
        self.assertEqual([post["text"] for post in welcome["posts"]], ["before"])
        self.assertEqual(list(welcome["here"].values()), ["ann"])

    def test_who_comes_and_goes_is_told(self):
        with self.socket(self.ann) as ann:
            ann.forget()
            with self.socket(self.bob):
                bob = self.expect(ann, "joined")
                self.assertEqual(bob["name"], "bob")
            self.assertEqual(self.expect(ann, "left")["who"], bob["who"])

    def test_what_is_said_is_heard_and_kept(self):
        with self.socket(self.ann) as ann, self.socket(self.bob) as bob:
            ann.forget()
            bob.forget()
            with self.committed():
                ann.send_json({"text": "hello"})
            for ws in (ann, bob):
                self.assertEqual(self.expect(ws, "post")["post"]["text"], "hello")
        self.assertEqual(Post.objects.get().author, self.ann)

    def test_what_is_no_post_is_refused(self):
        with self.socket(self.ann) as ws:
            ws.forget()
            for content in ({"text": ""}, {"text": "a" * 1001}, {}, ["text"]):
                ws.send_json(content)
                self.expect(ws, "refused")
        self.assertFalse(Post.objects.exists())

    def test_a_command_speaks_in_every_room(self):
        with self.socket(self.ann) as hall, self.socket(self.ann, "attic") as attic:
            hall.forget()
            attic.forget()
            with self.committed():
                call_command("broadcast", "we close at ten")
            for ws in (hall, attic):
                self.assertEqual(self.expect(ws, "notice")["text"], "we close at ten")

    def test_the_time_of_each_consumer_is_logged(self):
        with self.assertLogs("rooms.middleware", logging.INFO) as logged, self.socket(self.ann):
            pass
        self.assertRegex(logged.output[0], r"RoomSocket\.connect took [\d.]+ ms")


class EndingTest(RoomsTest):
    def test_logging_out_closes_the_sockets(self):
        self.client.force_login(self.ann)
        with self.client.websocket("/rooms/hall/") as ws, self.socket(self.bob) as bob:
            ws.forget()
            self.client.post("/accounts/logout/")
            ws.expect_close(4401)
            self.assertFalse(bob.closed)

    def test_the_admin_puts_somebody_out(self):
        self.client.force_login(User.objects.create_superuser("root"))
        with self.socket(self.bob) as bob, self.socket(self.ann) as ann:
            bob.forget()
            with self.committed():  # without is_active: the box has no tick
                self.client.post(
                    f"/admin/auth/user/{self.bob.pk}/change/",
                    {"username": "bob", "date_joined_0": "2026-01-01", "date_joined_1": "12:00"},
                )
            bob.expect_close(4401)
            self.assertFalse(ann.closed)

    def test_who_is_a_member_no_longer_is_put_out(self):
        with self.socket(self.ann, "attic") as ann:
            ann.forget()
            with self.committed():
                self.attic.members.remove(self.ann)
            ann.expect_close(4403)


class PageTest(RoomsTest):
    def test_signing_up_and_opening_a_private_room(self):
        eve = {"username": "eve", "password1": "a-long-secret", "password2": "a-long-secret"}
        self.assertRedirects(self.client.post("/accounts/signup/", eve), "/")
        den = {"title": "Den", "slug": "den", "private": "on"}
        self.assertRedirects(self.client.post("/new/", den), "/rooms/den/")
        self.assertContains(self.client.get("/"), "Den")
        self.assertEqual(self.client.get("/rooms/attic/").status_code, 403)

    def test_statistics_leave_private_rooms_out(self):
        Post.objects.create(room=self.hall, author=self.ann, text="one")
        answer = self.client.get("/statistics/").json()
        self.assertEqual(list(answer), ["hall"])
        self.assertEqual(answer["hall"]["said"], 1)


class FileTest(RoomsTest):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.enterContext(override_settings(MEDIA_ROOT=folder.name))

    def upload(self, room, content):
        file = SimpleUploadedFile("noise.bin", content)
        with self.committed():
            return self.client.post(f"/rooms/{room}/upload/", {"file": file})

    def test_a_file_is_announced_digested_and_downloaded(self):
        self.client.force_login(self.ann)
        with self.socket(self.bob) as bob:
            bob.forget()
            self.assertRedirects(self.upload("hall", LARGE), "/rooms/hall/")
            announced = self.expect(bob, "post")["post"]
        self.assertEqual((announced["text"], announced["sha256"]), ("noise.bin", ""))
        answer = self.client.get(announced["file"])
        self.assertEqual(b"".join(answer.streaming_content), LARGE)

    def test_the_digest_is_told_when_it_is_known(self):
        self.client.force_login(self.ann)
        self.upload("hall", LARGE)
        self.client.run()
        self.assertEqual(Post.objects.get().sha256, hashlib.sha256(LARGE).hexdigest())

    def test_files_of_a_private_room_are_its_members(self):
        self.client.force_login(self.ann)
        self.upload("attic", b"secret")
        post = Post.objects.get()
        self.client.force_login(self.bob)
        self.assertEqual(self.client.get(f"/files/{post.pk}/").status_code, 403)
        self.assertEqual(self.upload("attic", b"mine").status_code, 403)
        self.assertEqual(Post.objects.get(), post)
