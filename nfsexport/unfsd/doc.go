// Package unfsd assembles the NFS server in user space.
package unfsd
