// Command nfsbench compares our NFS server with nfs-ganesha and with what the
// loopback itself costs, under one load; scripts/bench runs it.
package main
