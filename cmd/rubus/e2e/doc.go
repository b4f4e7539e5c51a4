// Package e2e holds the tests of the whole: the rubus binary, real Linux NFS clients, simulated boards, a site's DHCP server.
package e2e
