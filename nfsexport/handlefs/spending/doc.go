// Package spending counts what an object takes of its export's quota, call by call.
package spending
