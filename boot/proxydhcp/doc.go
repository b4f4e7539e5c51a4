// Package proxydhcp hears the DHCP requests of Raspberry Pi boot firmware and answers them beside any DHCP server.
package proxydhcp
