// Package rootfile reads and writes single files in a mounted root that its board may have made hostile.
//
// Every way leads through real directories of that one mount: what a board made a
// symbolic link, a fifo or a mount is refused or replaced, never followed. A file is
// written under another name and renamed, so that it is there whole or not at all, and
// what has several names loses only this one.
package rootfile
