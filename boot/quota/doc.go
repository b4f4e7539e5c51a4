// Package quota keeps the roots of boards within what devices.yaml gives them.
//
// There are two ways. Where the file system of the state directory keeps project
// quotas, a new upper is made a project of its own, and the kernel counts and refuses.
// Elsewhere, and for uppers that were made when it was not so, the NFS server counts
// (nfsexport.Quota), and a Keeper counts on the disk what was there before and what
// the server missed.
//
// What is counted is the upper and overlayfs' own work directory beside it: the
// index has files that are nowhere else.
package quota
