"""The disk: path safety, the `.part` of a download, the check of a video, local files of a request, run locks."""
