// Package kafkatest runs a real Apache Kafka broker for tests: one node in
// KRaft mode on loopback, at ports that the system chooses, with its data in a
// temporary directory.
//
//	func TestX(t *testing.T) {
//		broker := kafkatest.Start(t, kafkatest.Options{})
//		... broker.Addr() ...
//	}
//
// The jars come from the Maven registry, once, by `make kafka-jars`; a test
// skips when they or Java are missing. A broker takes some seconds and 200 MB:
// tests of a package share one, kept in a Shared, under topic names of their own.
package kafkatest
