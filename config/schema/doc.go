// Package schema holds the JSON Schemas (draft 2020-12) of the two configuration files.
package schema
