#!/bin/sh
# Kafka's tool of this name as far as librdkafka's tests call it, done by the millstream binary.
set -eu
action='' topic='' brokers=''
set_aside=''
while [ $# -gt 0 ]; do
  case $1 in
    --create | --delete | --alter) action=${1#--} ;;
    --topic) topic=$2; shift ;;
    --bootstrap-server) brokers=$2; shift ;;
    --partitions | --config) set_aside="$set_aside $1 $2"; shift ;;
    --replication-factor) shift ;; # one copy is kept, whatever is asked for
    *) echo "kafka-topics.sh: $1 is not known here" >&2; exit 2 ;;
  esac
  shift
done
# shellcheck disable=SC2086 # neither counts nor configs hold spaces
exec "${MILLSTREAM:?path of the binary}" topic "$action" "$topic" --brokers "$brokers" $set_aside
