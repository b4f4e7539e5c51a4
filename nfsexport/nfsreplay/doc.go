// Package nfsreplay records the NFS calls of a client from its packets, and makes them again on another export.
package nfsreplay
