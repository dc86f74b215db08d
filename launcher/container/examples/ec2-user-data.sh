#!/bin/bash
# User data for an EC2 host with Debian 12: leaves `convoy` in /usr/local/bin, ready for `convoy train --hosts`.
#
# Set the two lines below. Every host of a job gets the same programs, from the image in ECR, because the bits of a result
# depend on the build. The host's role (iam/ec2-role.json) may read the image and the bucket; no key is stored here.
set -euxo pipefail

region=eu-west-1
image=111122223333.dkr.ecr.$region.amazonaws.com/convoy:latest

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends awscli docker.io ca-certificates libarchive13 libcurl4 libexpat1 libgomp1 \
    libjansson4 libjpeg62-turbo libopenblas0-pthread libopenmpi3 libpng16-16 libssl3 openmpi-bin openssh-client

aws ecr get-login-password --region "$region" | docker login --username AWS --password-stdin "${image%%/*}"
docker pull "$image"
container=$(docker create "$image")
docker cp "$container:/usr/local/bin/convoy" /usr/local/bin/convoy
docker cp "$container:/usr/local/bin/convoy-train" /usr/local/bin/convoy-train
docker rm "$container"
docker logout "${image%%/*}"
systemctl disable --now docker.service docker.socket # its bridge has the same address on every host, which confuses MPI
ip link delete docker0 || true

# Hosts of one job trust each other's first answer inside the VPC; the security group lets nobody else in.
cat >/etc/ssh/ssh_config.d/convoy.conf <<'CONF'
Host 10.* 172.16.* 172.17.* 172.18.* 172.19.* 172.2?.* 172.30.* 172.31.* 192.168.* ip-*
    StrictHostKeyChecking accept-new
    BatchMode yes
    ConnectTimeout 10
CONF
convoy --version
