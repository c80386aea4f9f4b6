#!/bin/sh
# Runs one Apache Kafka node (KRaft) on loopback in the foreground, until Ctrl-C.
#
#   run.sh LIBS DATA [PORT]
#
# LIBS has the broker's jars (make kafka-jars), DATA keeps its log and is
# formatted when it is empty. The controller listens on PORT+1.
set -eu
libs=$1 data=$2 port=${3:-9092}
mkdir -p "$data"
cat >"$data/log4j2.properties" <<EOF
status = error
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %m%n
EOF
cat >"$data/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$data/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
EOF
java() {
  command java -Xms128m -Xmx512m "-Dlog4j2.configurationFile=$data/log4j2.properties" -cp "$libs/*" "$@"
}
if [ ! -e "$data/log/meta.properties" ]; then
  id=$(java kafka.tools.StorageTool random-uuid)
  java kafka.tools.StorageTool format --cluster-id "$id" --config "$data/server.properties" >/dev/null
fi
echo "Kafka listens on 127.0.0.1:$port; its data is in $data; Ctrl-C stops it"
exec java -Xms128m -Xmx512m "-Dlog4j2.configurationFile=$data/log4j2.properties" -cp "$libs/*" \
  kafka.Kafka "$data/server.properties"
