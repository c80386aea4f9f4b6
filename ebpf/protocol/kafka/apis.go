package kafka

import "strings"

// api is what is known of a kind of request.
type api struct {
	name string
	// versions that exist, as of Kafka 4.1.
	max int16
	// flexible is the first version with tagged fields, -1: none has.
	flexible int16
	// throttle is the first version of a response that begins with the time of
	// throttling; -1: none does.
	throttle int16
	// errorFrom and errorTo are the versions of a response that has an error of its
	// own next; -1: it has one for each of its parts only, or none.
	errorFrom, errorTo int16
}

// apis by their keys, never changed.
var apis = [...]api{
	0:  {"Produce", 13, 9, -1, -1, -1},
	1:  {"Fetch", 18, 12, 1, 7, 127},
	2:  {"ListOffsets", 10, 6, -1, -1, -1},
	3:  {"Metadata", 13, 9, -1, -1, -1},
	4:  {"LeaderAndIsr", 7, 4, -1, -1, -1},
	5:  {"StopReplica", 4, 2, -1, -1, -1},
	6:  {"UpdateMetadata", 8, 6, -1, -1, -1},
	7:  {"ControlledShutdown", 3, 3, -1, -1, -1},
	8:  {"OffsetCommit", 10, 8, -1, -1, -1},
	9:  {"OffsetFetch", 10, 6, -1, -1, -1},
	10: {"FindCoordinator", 6, 3, 1, 0, 3},
	11: {"JoinGroup", 9, 6, 2, 0, 127},
	12: {"Heartbeat", 4, 4, 1, 0, 127},
	13: {"LeaveGroup", 5, 4, 1, 0, 127},
	14: {"SyncGroup", 5, 4, 1, 0, 127},
	15: {"DescribeGroups", 6, 5, -1, -1, -1},
	16: {"ListGroups", 5, 3, 1, 0, 127},
	17: {"SaslHandshake", 1, -1, -1, 0, 127},
	18: {"ApiVersions", 4, 3, -1, 0, 127},
	19: {"CreateTopics", 7, 5, -1, -1, -1},
	20: {"DeleteTopics", 6, 4, -1, -1, -1},
	21: {"DeleteRecords", 2, 2, -1, -1, -1},
	22: {"InitProducerId", 6, 2, 0, 0, 127},
	23: {"OffsetForLeaderEpoch", 4, 4, -1, -1, -1},
	24: {"AddPartitionsToTxn", 5, 3, 0, 4, 127},
	25: {"AddOffsetsToTxn", 4, 3, 0, 0, 127},
	26: {"EndTxn", 5, 3, 0, 0, 127},
	27: {"WriteTxnMarkers", 1, 1, -1, -1, -1},
	28: {"TxnOffsetCommit", 5, 3, -1, -1, -1},
	29: {"DescribeAcls", 3, 2, 0, 0, 127},
	30: {"CreateAcls", 3, 2, -1, -1, -1},
	31: {"DeleteAcls", 3, 2, -1, -1, -1},
	32: {"DescribeConfigs", 4, 4, -1, -1, -1},
	33: {"AlterConfigs", 2, 2, -1, -1, -1},
	34: {"AlterReplicaLogDirs", 2, 2, -1, -1, -1},
	35: {"DescribeLogDirs", 4, 2, 0, 3, 127},
	36: {"SaslAuthenticate", 2, 2, -1, 0, 127},
	37: {"CreatePartitions", 3, 2, -1, -1, -1},
	38: {"CreateDelegationToken", 3, 2, -1, 0, 127},
	39: {"RenewDelegationToken", 2, 2, -1, 0, 127},
	40: {"ExpireDelegationToken", 2, 2, -1, 0, 127},
	41: {"DescribeDelegationToken", 3, 2, -1, 0, 127},
	42: {"DeleteGroups", 2, 2, -1, -1, -1},
	43: {"ElectLeaders", 2, 2, 0, 1, 127},
	44: {"IncrementalAlterConfigs", 1, 1, -1, -1, -1},
	45: {"AlterPartitionReassignments", 1, 0, -1, -1, -1},
	46: {"ListPartitionReassignments", 0, 0, 0, 0, 127},
	47: {"OffsetDelete", 0, -1, -1, 0, 127},
	48: {"DescribeClientQuotas", 1, 1, 0, 0, 127},
	49: {"AlterClientQuotas", 1, 1, -1, -1, -1},
	50: {"DescribeUserScramCredentials", 0, 0, 0, 0, 127},
	51: {"AlterUserScramCredentials", 0, 0, -1, -1, -1},
	52: {"Vote", 2, 0, -1, 0, 127},
	53: {"BeginQuorumEpoch", 1, 1, -1, 0, 127},
	54: {"EndQuorumEpoch", 1, 1, -1, 0, 127},
	55: {"DescribeQuorum", 2, 0, -1, 0, 127},
	56: {"AlterPartition", 3, 0, 0, 0, 127},
	57: {"UpdateFeatures", 2, 0, 0, 0, 127},
	58: {"Envelope", 0, 0, -1, -1, -1},
	59: {"FetchSnapshot", 1, 0, 0, 0, 127},
	60: {"DescribeCluster", 2, 0, 0, 0, 127},
	61: {"DescribeProducers", 0, 0, -1, -1, -1},
	62: {"BrokerRegistration", 4, 0, 0, 0, 127},
	63: {"BrokerHeartbeat", 1, 0, 0, 0, 127},
	64: {"UnregisterBroker", 0, 0, 0, 0, 127},
	65: {"DescribeTransactions", 0, 0, -1, -1, -1},
	66: {"ListTransactions", 2, 0, 0, 0, 127},
	67: {"AllocateProducerIds", 0, 0, 0, 0, 127},
	68: {"ConsumerGroupHeartbeat", 1, 0, 0, 0, 127},
	69: {"ConsumerGroupDescribe", 1, 0, -1, -1, -1},
	70: {"ControllerRegistration", 0, 0, 0, 0, 127},
	71: {"GetTelemetrySubscriptions", 0, 0, 0, 0, 127},
	72: {"PushTelemetry", 0, 0, 0, 0, 127},
	73: {"AssignReplicasToDirs", 0, 0, 0, 0, 127},
	74: {"ListConfigResources", 1, 0, 0, 0, 127},
	75: {"DescribeTopicPartitions", 0, 0, -1, -1, -1},
	76: {"ShareGroupHeartbeat", 1, 0, 0, 0, 127},
	77: {"ShareGroupDescribe", 1, 0, -1, -1, -1},
	78: {"ShareFetch", 1, 0, 0, 0, 127},
	79: {"ShareAcknowledge", 1, 0, 0, 0, 127},
	80: {"AddRaftVoter", 0, 0, 0, 0, 127},
	81: {"RemoveRaftVoter", 0, 0, 0, 0, 127},
	82: {"UpdateRaftVoter", 0, 0, 0, 0, 127},
	83: {"InitializeShareGroupState", 0, 0, -1, -1, -1},
	84: {"ReadShareGroupState", 0, 0, -1, -1, -1},
	85: {"WriteShareGroupState", 0, 0, -1, -1, -1},
	86: {"DeleteShareGroupState", 0, 0, -1, -1, -1},
	87: {"ReadShareGroupStateSummary", 0, 0, -1, -1, -1},
	88: {"StreamsGroupHeartbeat", 0, 0, 0, 0, 127},
	89: {"StreamsGroupDescribe", 0, 0, -1, -1, -1},
	90: {"DescribeShareGroupOffsets", 0, 0, -1, -1, -1},
	91: {"AlterShareGroupOffsets", 0, 0, 0, 0, 127},
	92: {"DeleteShareGroupOffsets", 0, 0, 0, 0, 127},
}

// errorList are the names of errors from 1 on.
const errorList = "OFFSET_OUT_OF_RANGE CORRUPT_MESSAGE UNKNOWN_TOPIC_OR_PARTITION INVALID_FETCH_SIZE " +
	"LEADER_NOT_AVAILABLE NOT_LEADER_OR_FOLLOWER REQUEST_TIMED_OUT BROKER_NOT_AVAILABLE " +
	"REPLICA_NOT_AVAILABLE MESSAGE_TOO_LARGE STALE_CONTROLLER_EPOCH OFFSET_METADATA_TOO_LARGE " +
	"NETWORK_EXCEPTION COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR " +
	"INVALID_TOPIC_EXCEPTION RECORD_LIST_TOO_LARGE NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND " +
	"INVALID_REQUIRED_ACKS ILLEGAL_GENERATION INCONSISTENT_GROUP_PROTOCOL INVALID_GROUP_ID " +
	"UNKNOWN_MEMBER_ID INVALID_SESSION_TIMEOUT REBALANCE_IN_PROGRESS INVALID_COMMIT_OFFSET_SIZE " +
	"TOPIC_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED INVALID_TIMESTAMP " +
	"UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE UNSUPPORTED_VERSION TOPIC_ALREADY_EXISTS " +
	"INVALID_PARTITIONS INVALID_REPLICATION_FACTOR INVALID_REPLICA_ASSIGNMENT INVALID_CONFIG " +
	"NOT_CONTROLLER INVALID_REQUEST UNSUPPORTED_FOR_MESSAGE_FORMAT POLICY_VIOLATION " +
	"OUT_OF_ORDER_SEQUENCE_NUMBER DUPLICATE_SEQUENCE_NUMBER INVALID_PRODUCER_EPOCH INVALID_TXN_STATE " +
	"INVALID_PRODUCER_ID_MAPPING INVALID_TRANSACTION_TIMEOUT CONCURRENT_TRANSACTIONS " +
	"TRANSACTION_COORDINATOR_FENCED TRANSACTIONAL_ID_AUTHORIZATION_FAILED SECURITY_DISABLED " +
	"OPERATION_NOT_ATTEMPTED KAFKA_STORAGE_ERROR LOG_DIR_NOT_FOUND SASL_AUTHENTICATION_FAILED " +
	"UNKNOWN_PRODUCER_ID REASSIGNMENT_IN_PROGRESS DELEGATION_TOKEN_AUTH_DISABLED " +
	"DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH DELEGATION_TOKEN_REQUEST_NOT_ALLOWED " +
	"DELEGATION_TOKEN_AUTHORIZATION_FAILED DELEGATION_TOKEN_EXPIRED INVALID_PRINCIPAL_TYPE " +
	"NON_EMPTY_GROUP GROUP_ID_NOT_FOUND FETCH_SESSION_ID_NOT_FOUND INVALID_FETCH_SESSION_EPOCH " +
	"LISTENER_NOT_FOUND TOPIC_DELETION_DISABLED FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH " +
	"UNSUPPORTED_COMPRESSION_TYPE STALE_BROKER_EPOCH OFFSET_NOT_AVAILABLE MEMBER_ID_REQUIRED " +
	"PREFERRED_LEADER_NOT_AVAILABLE GROUP_MAX_SIZE_REACHED FENCED_INSTANCE_ID " +
	"ELIGIBLE_LEADERS_NOT_AVAILABLE ELECTION_NOT_NEEDED NO_REASSIGNMENT_IN_PROGRESS " +
	"GROUP_SUBSCRIBED_TO_TOPIC INVALID_RECORD UNSTABLE_OFFSET_COMMIT THROTTLING_QUOTA_EXCEEDED " +
	"PRODUCER_FENCED RESOURCE_NOT_FOUND DUPLICATE_RESOURCE UNACCEPTABLE_CREDENTIAL INCONSISTENT_VOTER_SET " +
	"INVALID_UPDATE_VERSION FEATURE_UPDATE_FAILED PRINCIPAL_DESERIALIZATION_FAILURE SNAPSHOT_NOT_FOUND " +
	"POSITION_OUT_OF_RANGE UNKNOWN_TOPIC_ID DUPLICATE_BROKER_REGISTRATION BROKER_ID_NOT_REGISTERED " +
	"INCONSISTENT_TOPIC_ID INCONSISTENT_CLUSTER_ID TRANSACTIONAL_ID_NOT_FOUND " +
	"FETCH_SESSION_TOPIC_ID_ERROR INELIGIBLE_REPLICA NEW_LEADER_ELECTED OFFSET_MOVED_TO_TIERED_STORAGE " +
	"FENCED_MEMBER_EPOCH UNRELEASED_INSTANCE_ID UNSUPPORTED_ASSIGNOR STALE_MEMBER_EPOCH " +
	"MISMATCHED_ENDPOINT_TYPE UNSUPPORTED_ENDPOINT_TYPE UNKNOWN_CONTROLLER_ID UNKNOWN_SUBSCRIPTION_ID " +
	"TELEMETRY_TOO_LARGE INVALID_REGISTRATION TRANSACTION_ABORTABLE INVALID_RECORD_STATE " +
	"SHARE_SESSION_NOT_FOUND INVALID_SHARE_SESSION_EPOCH FENCED_STATE_EPOCH INVALID_VOTER_KEY " +
	"DUPLICATE_VOTER VOTER_NOT_FOUND INVALID_REGULAR_EXPRESSION REBOOTSTRAP_REQUIRED " +
	"STREAMS_INVALID_TOPOLOGY STREAMS_INVALID_TOPOLOGY_EPOCH STREAMS_TOPOLOGY_FENCED " +
	"SHARE_SESSION_LIMIT_REACHED"

// errorNames by code, never changed.
var errorNames = strings.Fields(errorList)

// errorName gives the name of an error's code. 0 is none.
func errorName(code int16) string {
	switch {
	case code == 0:
		return ""
	case code > 0 && int(code) <= len(errorNames):
		return errorNames[code-1]
	}
	return "UNKNOWN_SERVER_ERROR"
}
