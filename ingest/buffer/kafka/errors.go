package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	kafkago "github.com/segmentio/kafka-go"
)

// errLost is returned by Commit of a claim whose member has left the group.
var errLost = errors.New("partition was taken away")

// ErrUnsent is wrapped by the error of an append of which no broker has got anything.
var ErrUnsent = errors.New("nothing was sent")

func unsent(cause error) error { return fmt.Errorf("%w: %w", ErrUnsent, cause) }

// errEnded is what a connection gets that begins with a request after nobody waits for it.
var errEnded = errors.New("the request was given up")

// refuses says whether an answer will be the same next time.
func refuses(code kafkago.Error) bool {
	switch code {
	case kafkago.InvalidTopic, kafkago.InvalidRequiredAcks, kafkago.InvalidPartitionNumber, kafkago.InvalidReplicationFactor,
		kafkago.InvalidConfiguration, kafkago.InvalidRequest, kafkago.PolicyViolation, kafkago.UnsupportedForMessageFormat,
		kafkago.UnsupportedVersion, kafkago.UnsupportedCompressionType, kafkago.InvalidRecord, kafkago.InvalidTimestamp,
		kafkago.TopicAuthorizationFailed, kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
		kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism, kafkago.IllegalSASLState, kafkago.SecurityDisabled,
		kafkago.InvalidGroupId, kafkago.InvalidSessionTimeout, kafkago.InconsistentGroupProtocol, kafkago.GroupMaxSizeReached:
		return true
	}
	return false
}

// isRefusal says whether trying again is of no use. All other errors are taken
// for passing: a network or a leader that changes.
func isRefusal(err error) bool {
	var code kafkago.Error
	if errors.As(err, &code) {
		return refuses(code)
	}
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
	)
	return errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &verify) || errors.As(err, &record)
}

// isTooLarge says whether a record batch was refused for its size.
func isTooLarge(err error) bool {
	return errors.Is(err, kafkago.MessageSizeTooLarge) || errors.Is(err, kafkago.RecordListTooLarge)
}

// isFenced says whether the member is not part of the group any more.
func isFenced(err error) bool {
	return errors.Is(err, kafkago.UnknownMemberId) || errors.Is(err, kafkago.IllegalGeneration) || errors.Is(err, kafkago.FencedInstanceID)
}
