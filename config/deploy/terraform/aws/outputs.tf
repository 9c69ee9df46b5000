output "role_arn" {
  description = "ARN of the role. With IRSA it is identity.awsRoleArn of the chart, or the annotation in the overlay aws."
  value       = aws_iam_role.forescale.arn
}
