# The key ring, and the service account that the daemon runs as. A daemon that
# only signs can do without the third role: then keys are made by one that has it.
variable "project" {}
variable "location" { default = "europe-west3" }

resource "google_kms_key_ring" "signet" {
  project  = var.project
  name     = "signet"
  location = var.location
}

resource "google_service_account" "signet" {
  project    = var.project
  account_id = "signet"
}

resource "google_kms_key_ring_iam_member" "sign" {
  key_ring_id = google_kms_key_ring.signet.id
  role        = "roles/cloudkms.signerVerifier"
  member      = google_service_account.signet.member
}

# signerVerifier can use a version whose name it knows; this one finds it.
resource "google_project_iam_custom_role" "reader" {
  project     = var.project
  role_id     = "signetReader"
  title       = "lists signing keys, with their state and attestation"
  permissions = ["cloudkms.cryptoKeys.list", "cloudkms.cryptoKeyVersions.list"]
}

resource "google_kms_key_ring_iam_member" "read" {
  key_ring_id = google_kms_key_ring.signet.id
  role        = google_project_iam_custom_role.reader.name
  member      = google_service_account.signet.member
}

resource "google_project_iam_custom_role" "keymaker" {
  project     = var.project
  role_id     = "signetKeymaker"
  title       = "makes and destroys signing keys, and can't sign"
  permissions = ["cloudkms.cryptoKeys.create", "cloudkms.cryptoKeyVersions.create", "cloudkms.cryptoKeyVersions.destroy"]
}

resource "google_kms_key_ring_iam_member" "make" {
  key_ring_id = google_kms_key_ring.signet.id
  role        = google_project_iam_custom_role.keymaker.name
  member      = google_service_account.signet.member
}
