// Command tftpbench measures TFTP servers side by side, for scripts/bench.
package main
