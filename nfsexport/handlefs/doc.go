// Package handlefs serves mounted overlays as an nfs3.FS by the kernel's own file handles.
//
// What is in it decides one call on one object; op is the call and object the file. What
// that takes is in the rooms below, which know neither: what a handle says (fhandle), the
// system calls (rawfs), what the caller may (creds), who may change an export now (gate),
// how a change comes to the disk (commit), what a quota counts (spending), what is left of
// the disk (reserve), whether a file is what it was (stamp), what names stand for (names),
// what a directory has (listing), what boards of an image share of it (golden), and which
// names came with handles (shown).
package handlefs
