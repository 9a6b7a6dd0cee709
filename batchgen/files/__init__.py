"""The disk: the `.part` of a download, the check of a video, local files of a request, and the lock of a live run."""
