// Package netconsole hears what boards' kernels and bootloaders print, line by
// line, where they are told to send it by UDP.
package netconsole
