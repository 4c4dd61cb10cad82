#!/usr/bin/env bash
# Prepares the head of a cluster on machines of its own: PostgreSQL, and MLflow's server as a service that is started
# again when it dies. PostgreSQL listens on a Unix socket only and knows this user by name: there is no password.
set -euo pipefail
# shellcheck source=/dev/null
. ~/sisr.settings
user=$(id -un)
backup=$SISR_SHARED/mlflow-backup.dump

if ! command -v psql > /dev/null; then
  sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install postgresql
fi
as_admin() { sudo -u postgres psql -qAt -c "$1"; }
sudo -u postgres psql -qAt -c "alter system set listen_addresses = ''"
sudo systemctl restart postgresql
[ "$(as_admin "select count(*) from pg_roles where rolname = '$user'")" = 1 ] || sudo -u postgres createuser "$user"
if [ "$(as_admin "select count(*) from pg_database where datname = 'mlflow'")" = 0 ]; then
  sudo -u postgres createdb --owner "$user" mlflow
  if [ -e "$backup" ]; then pg_restore --no-owner --exit-on-error --dbname mlflow "$backup"; fi # of an earlier head
fi

grep -qs SISR_DATABASE ~/sisr.settings ||
  echo "export SISR_DATABASE='postgresql+psycopg2:///mlflow?host=/var/run/postgresql'" >> ~/sisr.settings

# The database is copied to shared storage every hour, so that a new head can go on with it.
sudo tee /etc/cron.hourly/sisr-mlflow-backup > /dev/null << CRON
#!/bin/sh
exec su "$user" -c 'pg_dump --format custom --file "$backup.new" mlflow && mv "$backup.new" "$backup"'
CRON
sudo chmod 755 /etc/cron.hourly/sisr-mlflow-backup

sudo tee /etc/systemd/system/sisr-mlflow.service > /dev/null << UNIT
[Unit]
Description=MLflow tracking server of sisr, on loopback
After=network-online.target postgresql.service
StartLimitIntervalSec=0

[Service]
User=$user
ExecStart=/bin/bash $HOME/sisr-code/deploy/mlflow.sh
Restart=always
RestartSec=5
NoNewPrivileges=true
PrivateTmp=true

[Install]
WantedBy=multi-user.target
UNIT
sudo systemctl daemon-reload
sudo systemctl enable --quiet sisr-mlflow
sudo systemctl restart sisr-mlflow
