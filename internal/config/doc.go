// Package config reads Vedette's YAML file strictly and describes every key
// that a configuration struct has.
//
// In comes a file and a pointer to a struct that holds the defaults; Decode
// lays the file over it. It refuses what it does not know and says where: an
// unknown key, a wrong type, a key given twice and an unset environment
// variable are each reported with file, line and the full path of the key, all
// of them at once, and an unknown key with the nearest one that exists.
//
//	file ──► yaml nodes ──► struct with defaults
//	             │
//	             └──► Extract: the sections in Prometheus syntax, lines kept,
//	                  for prometheus/config to decode as strictly
//
// Values of Vedette's own keys may name environment variables as ${NAME}; a
// literal "${" is written "$${". A key of type Secret has a twin that ends in
// _file and names a file to read the secret from; secrets print as "<secret>".
//
// Describe walks a struct and lists its keys with type and default; Comments
// adds what the doc comments of the struct's fields say. The page
// docs/configuration.md is made from both, so a key is documented by the
// comment beside it and nowhere else.
//
// The package keeps no state and starts no goroutine.
package config
