// Package capture writes what goes over a network interface to a file in the pcap format, and reads such files.
package capture
