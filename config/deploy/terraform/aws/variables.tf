variable "cluster_name" {
  description = "EKS cluster in which Forescale runs. EKS Pod Identity associates the role with its service account."
  type        = string
}

variable "oidc_provider_arn" {
  description = "IAM OIDC provider of the cluster, for IRSA. Null: EKS Pod Identity, which needs its agent in the cluster."
  type        = string
  default     = null
}

variable "namespace" {
  description = "Namespace of Forescale's service account."
  type        = string
}

variable "service_account" {
  description = "Name of Forescale's service account."
  type        = string
  default     = "forescale"
}

variable "role_name" {
  description = "Name of the role."
  type        = string
  default     = "forescale"
}

variable "queue_arns" {
  description = "SQS queues whose messages are counted: source sqs."
  type        = list(string)
  default     = []
}

variable "read_metrics" {
  description = "Read CloudWatch metrics: source cloudwatch, and source sqs with oldest_age or groups. Route alb reads them in any case."
  type        = bool
  default     = false
}

variable "events_queue_arns" {
  description = "SQS queues with interruption notices: notices.queue_url of a pool."
  type        = list(string)
  default     = []
}

variable "group_arns" {
  description = "Auto Scaling groups, for example arn:aws:autoscaling:REGION:ACCOUNT:autoScalingGroup:*:autoScalingGroupName/NAME: pools asg and asg_warm_pool."
  type        = list(string)
  default     = []
}

variable "node_group_arns" {
  description = "EKS node groups, for example arn:aws:eks:REGION:ACCOUNT:nodegroup/CLUSTER/NAME/*: pool eks_node_group."
  type        = list(string)
  default     = []
}

variable "fleet_arns" {
  description = "EC2 fleets of type maintain: pool ec2_fleet."
  type        = list(string)
  default     = []
}

variable "endpoint_arns" {
  description = "SageMaker endpoints: pool sagemaker_variant, and the endpoints of sagemaker_inference_component."
  type        = list(string)
  default     = []
}

variable "component_arns" {
  description = "SageMaker inference components: pool sagemaker_inference_component."
  type        = list(string)
  default     = []
}

variable "node_role_arns" {
  description = "Roles of the instances that pool ec2_instant_fleet buys. Empty: no such pool."
  type        = list(string)
  default     = []
}

variable "read_reservations" {
  description = "Read capacity reservations: a pool with reservation."
  type        = bool
  default     = false
}

variable "listener_rule_arns" {
  description = "Rules of listeners of Application Load Balancers: route alb."
  type        = list(string)
  default     = []
}

variable "hosted_zone_arns" {
  description = "Hosted zones of Route 53, for example arn:aws:route53:::hostedzone/ID: route dns, with record_names."
  type        = list(string)
  default     = []
}

variable "record_names" {
  description = "Names of the weighted records, in lower case and without a dot at the end: route dns. Other records cannot be changed."
  type        = list(string)
  default     = []
}

variable "record_types" {
  description = "Types of the weighted records: route dns."
  type        = list(string)
  default     = ["A"]
}
