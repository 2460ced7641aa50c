from django.contrib import admin

from rooms.models import Post, Room

admin.site.register(Room, filter_horizontal=["members"], list_display=["title", "private"])
admin.site.register(Post, list_display=["room", "author", "text", "sent"], list_filter=["room"])
