from django import forms

from rooms.models import Post


class SayForm(forms.ModelForm):
    class Meta:
        model = Post
        fields = ["text"]


class UploadForm(forms.ModelForm):
    file = forms.FileField()
    text = forms.CharField(required=False)

    class Meta:
        model = Post
        fields = ["file", "text"]
