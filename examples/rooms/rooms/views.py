from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max
from django.http import FileResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse_lazy
from django.views.decorators.http import require_POST
from django.views.generic import CreateView, DetailView, ListView

from django_gateway import ResponseLater
from rooms.forms import UploadForm
from rooms.models import Post, Room


def get_room(user, slug):
    room = get_object_or_404(Room, slug=slug)
    if not room.admits(user):
        raise PermissionDenied
    return room


class SignUp(CreateView):
    form_class = UserCreationForm
    template_name = "registration/signup.html"
    success_url = reverse_lazy("rooms")

    def form_valid(self, form):
        response = super().form_valid(form)
        login(self.request, self.object)
        return response


class RoomList(ListView):
    queryset = Room.objects.annotate(said=Count("posts")).order_by("title")


class NewRoom(LoginRequiredMixin, CreateView):
    model = Room
    fields = ["title", "slug", "private", "members"]

    def form_valid(self, form):
        response = super().form_valid(form)
        self.object.members.add(self.request.user)
        return response


class RoomPage(LoginRequiredMixin, DetailView):
    model = Room

    def get_object(self, queryset=None):
        return get_room(self.request.user, self.kwargs["slug"])


@login_required
@require_POST
def upload(request, slug):
    """An ordinary form with an ordinary file; everybody in the room hears of it."""
    post = Post(room=get_room(request.user, slug), author=request.user)
    form = UploadForm(request.POST, request.FILES, instance=post)
    if not form.is_valid():
        return JsonResponse(form.errors.get_json_data(), status=400)
    form.instance.text = form.instance.text or form.cleaned_data["file"].name
    form.save()
    return redirect(post.room)


@login_required
def download(request, pk):
    post = get_object_or_404(Post.objects.exclude(file=""), pk=pk)
    get_room(request.user, post.room.slug)
    return FileResponse(post.file.open(), as_attachment=True)


async def statistics(request):
    """Asynchronous views use the asynchronous ORM."""
    rooms = Room.objects.filter(private=False).annotate(
        said=Count("posts"), last=Max("posts__sent")
    )
    return JsonResponse({room.slug: {"said": room.said, "last": room.last} async for room in rooms})


@login_required
def news(request, slug):
    """The next thing that happens in the room, for whoever has no WebSocket."""
    get_room(request.user, slug).group.add(request.reply_channel)
    raise ResponseLater
