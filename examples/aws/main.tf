# The role of the machine or task that the daemon runs on. A daemon that only
# signs can do without MakeOnlyTaggedSigningKeys and NameThem: then keys are made
# by one that has them.
variable "principal" {
  description = "service that assumes the role, such as ec2.amazonaws.com"
  default     = "ec2.amazonaws.com"
}

resource "aws_iam_role" "signet" {
  name = "signet"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = var.principal } }]
  })
}

resource "aws_iam_role_policy" "signet" {
  name   = "signet"
  role   = aws_iam_role.signet.id
  policy = file("${path.module}/policy.json")
}

resource "aws_iam_instance_profile" "signet" {
  name = "signet"
  role = aws_iam_role.signet.name
}
