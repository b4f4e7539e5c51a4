// Package upper copies a board's writes so that the copy needs neither the index nor the work directory of the first.
//
// Overlayfs ties an upper to its index: a golden file with several names that was
// written under one of them, and one that was written by a file handle alone,
// shows what was written under its other names only through the index
// (work/index), which names inodes and is of no use to a copy. So the copy gets
// those names as real hard links, with the directories they need. The attributes that tie
// objects to inodes (trusted.overlay.origin, .nlink, .impure, .upper, .uuid) are
// left out, those that say what hides what (.opaque, .redirect) are kept. What a mount
// of the copy shows, with a fresh work directory, is what a mount of the first
// shows: names, content, attributes, times, hard links.
package upper
