// Package knfsd offers exports by the host's own NFS server, the kernel's.
//
// The host's exportfs tells it what is exported to whom, and the host's
// rpc.mountd answers MOUNT and what the kernel asks. A file below /etc/exports.d
// has the same, so that the exports are there after a reboot of the host, or of
// its NFS server, before this package runs: until a root is mounted, calls on it
// wait ("mountpoint", exports(5)). Of what the host exports only what lies below
// Options.Roots, with an fsid of ours, is ever looked at or changed.
//
// The kernel does not tell of calls. What its caches, counters and connections
// show is looked at each second.
package knfsd
