// Command rubus boots diskless Raspberry Pis from golden images over the network.
package main
