// Package fdt reads, changes and writes flattened device trees.
package fdt
