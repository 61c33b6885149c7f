#!/bin/sh
# Usage: OSS_ACCESS_KEY_ID=... OSS_ACCESS_KEY_SECRET=... secret.sh KEYS | kubectl apply -f -
#
# Print a Secret with the keys in the folder KEYS (of `voicedrop init`) and an access key of a RAM user
# with the policy worker.json. Of several keys the last by name is the current one and comes first.
set -eu
cd "$1"

entry() { printf '  %s: %s\n' "$1" "$(tr -d '\n' | base64 | tr -d '\n')"; }
secrets() { printf '%s\n' "$1"-*.key | sort -r | xargs cat | paste -s -d , -; }
signing_keys() {
  current="$(printf '%s\n' sign-*.pem | grep -v '\.pub\.pem$' | sort | tail -n 1)"
  base64 < "$current"
  printf '%s\n' sign-*.pub.pem | sort -r | while read -r public; do
    [ "$public" = "${current%.pem}.pub.pem" ] || { printf ,; base64 < "$public"; }
  done
}

printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: voicedrop-keys\ntype: Opaque\ndata:\n'
secrets kek | entry VOICEDROP_KEK
secrets watermark | entry VOICEDROP_WATERMARK_KEY
signing_keys | entry VOICEDROP_SIGNING_KEY
printf %s "${OSS_ACCESS_KEY_ID:?}" | entry OSS_ACCESS_KEY_ID
printf %s "${OSS_ACCESS_KEY_SECRET:?}" | entry OSS_ACCESS_KEY_SECRET
