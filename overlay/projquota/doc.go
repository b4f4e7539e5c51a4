// Package projquota is the kernel's project quotas of directory trees.
//
// On ext4 and xfs a directory can belong to a project, a number, with all that is made
// below it (PROJINHERIT); the file system counts what a project has, and keeps it to a
// limit when it is mounted with prjquota. Nothing here changes how it is mounted.
//
// The calls are those of xfs (Q_XGETQUOTA and so on), which the kernel answers for
// ext4 as well, by descriptor (quotactl_fd, Linux 5.14).
package projquota
